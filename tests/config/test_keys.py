"""The keys are what constructors take, and everything that is written about them is complete."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from pathlib import Path

import pytest

from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.backends.transformers_options import TransformersOptions
from intrinsic.bus import BusOptions
from intrinsic.config.about import ABOUT, SECTION_TITLES
from intrinsic.config.keys import KEYS, REQUIRED, keys_of
from intrinsic.config.template import reference, template
from intrinsic.embedding.options import EmbeddingOptions
from intrinsic.manager import ManagerOptions
from intrinsic.routing.encoder_options import EncoderOptions
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.options import RouterOptions
from intrinsic.wiring import WiringOptions
from tests.config.places import Places

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
BETWEEN = re.compile(r"<!-- keys -->\n\n(.*)\n<!-- end of keys -->", re.DOTALL)


@pytest.mark.parametrize(
    ("options", "made_of_others"),
    [
        (BusOptions, set()),
        (ManagerOptions, set()),
        (RouterOptions, set()),
        (LLMOptions, {"endpoint"}),
        (WiringOptions, {"routing", "llm", "manager"}),
        (EncoderOptions, set()),
        (EmbeddingOptions, set()),
        (TransformersOptions, set()),
    ],
)
def test_every_field_of_the_options_is_a_key_with_its_default(
    options: type, made_of_others: set[str]
) -> None:
    keys = keys_of(options)
    fields = {field.name: field for field in dataclasses.fields(options)}
    assert keys.keys() == fields.keys() - made_of_others
    own = options()
    for name, key in keys.items():
        assert key.default == getattr(own, name)


def test_the_settings_of_the_model_are_what_loading_it_takes() -> None:
    taken = inspect.signature(TransformersBackend.from_pretrained).parameters.keys() - {"model"}
    assert keys_of(TransformersOptions).keys() == taken


def test_every_key_is_explained_and_nothing_else() -> None:
    assert list(ABOUT) == list(KEYS)
    assert set(SECTION_TITLES) == {key.section.name for key in KEYS.values()}


def test_variables_name_keys() -> None:
    assert KEYS["registry"].variable == "INTRINSIC_REGISTRY"
    assert KEYS["llm.endpoint.api_key"].variable == "INTRINSIC_LLM__ENDPOINT__API_KEY"
    assert len({key.variable for key in KEYS.values()}) == len(KEYS)


def test_the_documented_table_is_that_of_the_code() -> None:
    found = BETWEEN.search(DOCS.read_text(encoding="utf-8"))
    assert found is not None
    assert found[1] == reference(), "write what intrinsic.config.template.reference() returns"


def test_the_written_file_sets_nothing(places: Places) -> None:
    places.project(template())
    settings = places.load()
    assert settings == places.load()
    assert {one.origin for one in settings} == {"default"}


def test_the_written_file_with_every_key_set_is_equal_to_the_defaults(places: Places) -> None:
    plain = places.load()
    lines = template().splitlines()
    names = "|".join(key.name for key in KEYS.values())
    every = [re.sub(rf"^# ((?:{names}) = )", r"\1", line) for line in lines]
    said = tomllib.loads("\n".join(every))
    endpoint = said["llm"].pop("endpoint")
    assert endpoint.keys() == {"base_url", "model", "api_key", "timeout_s", "confidence",
                               "max_prompt_chars"}  # fmt: skip
    start = every.index("[llm.endpoint]")
    end = next(at for at, line in enumerate(every) if line == "[manager]")
    places.project("\n".join(every[:start] + every[end:]))
    settings = places.load()
    assert settings == plain
    not_set = {one.key.path for one in settings if one.origin == "default"}
    assert all(KEYS[path].section.name == "llm.endpoint" for path in not_set)
    places.project("\n".join(every))
    assert places.load().llm_options().endpoint is not None


def test_only_an_endpoint_has_keys_that_must_be_given() -> None:
    required = [path for path, key in KEYS.items() if key.default is REQUIRED]
    assert required == ["llm.endpoint.base_url", "llm.endpoint.model"]
