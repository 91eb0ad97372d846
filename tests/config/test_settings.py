"""What is made of settings, and that secrets are shown nowhere."""

from __future__ import annotations

import dataclasses
import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from intrinsic.backends.transformers_options import TransformersOptions
from intrinsic.bus import BusOptions, MemoryBus
from intrinsic.config.keys import KEYS
from intrinsic.config.wording import nearest
from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider
from intrinsic.errors import ConfigError, SettingsError
from intrinsic.manager import ManagerOptions
from intrinsic.plugins import PluginManager
from intrinsic.routing.encoder import SentenceEncoder
from intrinsic.routing.encoder_options import EncoderOptions
from intrinsic.routing.options import RouterOptions
from intrinsic.wiring import WiringOptions
from tests.config.places import Places

SECRET = "sk-3a7f0c55d1"
ENDPOINT = '[llm.endpoint]\nbase_url = "http://localhost:8000"\nmodel = "judge"\n'


def test_without_anything_said_all_options_are_the_constructors_own(places: Places) -> None:
    settings = places.load()
    assert settings.wiring_options() == WiringOptions()
    assert settings.bus_options() == BusOptions()
    assert settings.encoder_options() == EncoderOptions()
    assert settings.router_options() is None
    assert {setting.origin for setting in settings} == {"default"}
    assert [setting.key.path for setting in settings] == list(KEYS)


def test_what_was_said_arrives_in_the_options(places: Places) -> None:
    places.project(
        "[routing]\nrouter = 'cascade'\nforce_adapters = true\nthreshold = 0.6\n"
        "[llm]\nmax_candidates = 3\n[manager]\nmax_loaded = 5\n[bus]\nmax_queued = 7\n"
        "[generation]\nseed = 11\n[embedding]\nbatch_size = 9\n[encoder]\nbatch_size = 8\n"
        + ENDPOINT
    )
    settings = places.load(LLM__ENDPOINT__API_KEY=SECRET)
    wiring = settings.wiring_options()
    assert (wiring.router, wiring.force_adapters) == ("cascade", True)
    assert wiring.routing == RouterOptions(threshold=0.6)
    assert wiring.manager == ManagerOptions(max_loaded=5)
    assert wiring.llm.max_candidates == 3
    endpoint: Any = wiring.llm.endpoint
    assert endpoint.url == "http://localhost:8000/v1/chat/completions"
    assert endpoint._api_key == SECRET
    bus = settings.bus()
    assert isinstance(bus, MemoryBus)
    assert bus.options.max_queued == 7
    assert settings.generation_options().seed == 11
    assert settings.embedding_options().batch_size == 9
    assert settings.encoder_options().batch_size == 8


def test_what_is_shown_is_one_line_that_no_terminal_obeys(places: Places) -> None:
    settings = places.load({"model": "a\n\x1b[31mb", "generation.stop": ("\x9b1m",)})
    by_path = {one.key.path: one for one in settings}
    assert by_path["model"].text == r"a\n\x1b[31mb"
    assert by_path["model"].plain == "a\n\x1b[31mb"
    assert all(one.text.isprintable() for one in settings)


def test_a_key_alone_as_of_the_environment_is_no_endpoint(places: Places) -> None:
    assert places.load(LLM__ENDPOINT__API_KEY=SECRET).llm_options().endpoint is None


def test_factories_get_the_settings_that_they_name(places: Places) -> None:
    plugins = PluginManager()
    calls: list[tuple[object, ...]] = []

    class Offering:
        def register_backends(self) -> object:
            return {"named": self.named, "plain": self.plain}

        def register_embedders(self) -> object:
            return {"named": self.embedder}

        def named(self, model: str, *, transformers: TransformersOptions) -> None:
            calls.append((model, transformers))

        def plain(self, model: str) -> None:
            calls.append((model,))

        def embedder(self, model: str | None, *, encoder: EncoderOptions) -> None:
            calls.append((model, encoder))

    from intrinsic import hookimpl

    for name in ("register_backends", "register_embedders"):
        setattr(Offering, name, hookimpl(getattr(Offering, name)))
    plugins.register(Offering(), "offering")
    said = {"model": "/m", "embedder": "named", "transformers.max_rows": 3, "encoder.threads": 1}
    for backend in ("named", "plain"):
        places.load(said | {"backend": backend}).backend(plugins)
    places.load(said | {"encoder.model": "e"}).embedder(plugins)
    assert calls == [
        ("/m", TransformersOptions(max_rows=3)),
        ("/m",),
        ("e", EncoderOptions(threads=1)),
    ]


def test_the_default_encoder_is_made_of_the_settings(places: Places) -> None:
    settings = places.load({"encoder.cached_texts": 5, "encoder.runtime": "torch"})
    encoder = settings.embedder(PluginManager.with_builtins())
    assert isinstance(encoder, SentenceEncoder)
    assert encoder.options == EncoderOptions(cached_texts=5, runtime="torch")


def test_encoder_lora_is_made_of_the_settings_of_embeddings(places: Places) -> None:
    settings = places.load({"embedder": "lora", "embedding.batch_size": 5, "encoder.model": "e"})
    provider = settings.embedder(PluginManager.with_builtins())
    assert isinstance(provider, EmbeddingProvider)
    assert provider.options == EmbeddingOptions(batch_size=5)


def test_settings_are_frozen(places: Places) -> None:
    settings = places.load()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.values = {}  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.values["model"] = "x"  # type: ignore[index]
    with pytest.raises(TypeError):
        settings.value("routing.memory_weights")["knn_lm"] = 0.5


def test_settings_of_equal_values_are_equal_wherever_they_came_from(places: Places) -> None:
    plain = places.load()
    assert places.load({"routing.top_k": 2}) == plain
    assert places.load({"routing.top_k": 3}) != plain


def test_an_unknown_key_is_refused_with_the_nearest(places: Places) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'routing.topk'; did you mean"):
        places.load().origin("routing.topk")
    assert nearest("base_url") == "llm.endpoint.base_url"


def test_secrets_are_shown_nowhere(places: Places) -> None:
    places.project(ENDPOINT)
    settings = places.load(
        LLM__ENDPOINT__API_KEY=SECRET, REGISTRY=f"postgresql://me:{SECRET}@db/adapters"
    )
    by_path = {one.key.path: one for one in settings}
    assert by_path["llm.endpoint.api_key"].text == by_path["llm.endpoint.api_key"].plain == "***"
    assert by_path["registry"].text == "postgresql://me:***@db/adapters"
    shown = json.dumps([(one.text, one.plain, one.origin) for one in settings])
    for what in (settings, settings.values, settings.project, settings.wiring_options()):
        assert SECRET not in repr(what)
    assert SECRET not in f"{shown} {settings}"
    assert SECRET in str(settings.project.registry)


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        (f"[llm.endpoint]\nbase_url = 3\nmodel = 'm'\napi_key = '{SECRET}'\n", {}),
        (f"[llm.endpoint]\nbase_url = 'http://x'\nmodel = 'm'\napi_key = \"{SECRET}\\n\"\n", {}),
        (f"[llm.endpoint]\napi_key = ['{SECRET}']\n", {}),
        (f"[llm.endpoint.api_key]\nvalue = '{SECRET}'\n", {}),
        (f"[llm.endpoint]\napi_keyy = '{SECRET}'\n", {}),
        (f"[llm]\nendpoint = '{SECRET}'\n", {}),
        (f"registry = 'mysql://me:{SECRET}@db/x'\n", {}),
        (f"registry = ['postgresql://me:{SECRET}@db/x']\n", {}),
        (f"[llm.endpoint]\napi_key = '{SECRET}\n", {}),
        (f"adapters = 'postgresql://me:{SECRET}@db/x'\n", {}),
        (f"plugins = ['postgresql://me:{SECRET}@db/x']\n", {}),
        ("", {"ADAPTERS": f"postgresql://me:{SECRET}/x@db/x"}),
        ("", {"BUS__SHADOW": f"postgresql://me:{SECRET}@db/x"}),
        ("", {"LLM__ENDPOINT__API_KEYY": SECRET}),
        ("[routing]\ntop_k = 0\n", {"LLM__ENDPOINT__API_KEY": SECRET}),
    ],
)
def test_no_error_shows_a_secret(places: Places, text: str, variables: dict[str, str]) -> None:
    places.project(text)
    with pytest.raises(SettingsError) as caught:
        places.load(**variables)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in told
    assert caught.value.__context__ is None


def test_importing_intrinsic_and_settings_imports_no_tensor_library(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, intrinsic; assert 'intrinsic.config' not in sys.modules\n"
        "from intrinsic.config import load_settings; load_settings()\n"
        "assert not {'torch', 'transformers', 'httpx'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
