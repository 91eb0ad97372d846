"""What is wrong with settings: each fault its sentence, all at once, with the place."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest

from intrinsic.config.keys import KEYS, PREFIX
from intrinsic.errors import ConfigError, SettingsError
from tests.config.places import Places
from tests.tiny import llama, write_adapter


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("topk = 1", "intrinsic.toml: unknown key 'topk'; did you mean 'routing.top_k'?"),
        ("top_k = 1", "unknown key 'top_k'; did you mean 'routing.top_k'?"),
        ("[routing]\ntopk = 1", "unknown key 'routing.topk'; did you mean 'routing.top_k'?"),
        ("[routng]\ntop_k = 1", "unknown key 'routng.top_k'; did you mean 'routing.top_k'?"),
        ("[routing]\ntop-k = 1", "unknown key 'routing.top-k'; did you mean 'routing.top_k'?"),
        ("z" * 20_000 + " = 1", "unknown key 'zzzzzzzzzz"),
        ("zzzzzz = 1", "unknown key 'zzzzzz'; 'intrinsic config show' lists all keys"),
        ("routing = 3", "routing is a table of settings; write [routing] and its keys below"),
        ("[routing]\ntop_k = 0", "intrinsic.toml: routing.top_k is 0; it must be 1 or more"),
        ("[routing]\ntop_k = true", "routing.top_k is true; it must be a whole number"),
        ("[routing]\ntop_k = 2.5", "routing.top_k is 2.5; it must be a whole number"),
        ("[routing]\nthreshold = 'x'", "routing.threshold is 'x'; it must be a number"),
        ("[routing]\nthreshold = nan", "routing.threshold is nan; it must lie in [0, 1]"),
        ("[bus]\nshadow = 'perhaps'", "bus.shadow is 'perhaps'; it must be true or false"),
        ("model = 5", 'model is 5; it must be a text, or "none"'),
        ("model = ''", "model is empty; leave it out, or name one"),
        ("adapters = ''", "adapters is ''; it must be a path"),
        ("plugins = [1]", "plugins.0 is not valid; plugins must be a list of paths"),
        ("[llm]\nask = 'both'", "llm.ask is 'both'; it must be one of cards, names"),
        ("[llm]\nlow = 0.9", "llm.low: the band is [0.9, 0.8]"),
        ("[manager]\nmode = 'fast'", "it must be one of sidecar, merged, auto"),
        ("[bus]\nmax_queued = -1", "bus.max_queued is -1; it must be a whole number of 0 or more"),
        ("[generation]\nstop = ['']", "generation.stop is ('',); it must be a sequence"),
        ("[routing.memory_weights]\nknnlm = 1", "routing.memory_weights names 'knnlm'"),
        ("[routing.memory_weights]\nknn_lm = 'x'", "routing.memory_weights.knn_lm is not valid"),
        ("[embedding.instructions.q]\nqury = ''", "must be a table of tables with query and pass"),
        ("[embedding]\ntask = 'search'", "embedding.task is 'search'; known tasks: none"),
        ("[encoder]\nruntime = 'tpu'", "encoder.runtime is 'tpu'; it must be one of auto, torch"),
        ("[transformers]\nmax_rows = 0", "transformers.max_rows is 0; it must be an integer"),
        ("registry = 'mysql://x/y'", "registry: the registry cannot be kept in 'mysql'"),
        ("registry = 'a'\nadapters = 'b'", "both say where the adapters are; use one of them"),
        ("[llm.endpoint]\nmodel = 'm'", "llm.endpoint.base_url is missing; an endpoint has"),
        ("model = 2020-01-01", 'model is "2020-01-01"; it must be a text, or "none"'),
        ("[routing]\ntop_k = 07:32:00", 'top_k is "07:32:00"; it must be a whole number'),
        (".".join("a" * 3000) + " = 1", "intrinsic.toml: it cannot be read as TOML: "),
        ("model = ", "intrinsic.toml: it cannot be read as TOML: "),
        ("model = 'a'\nmodel = 'b'", "intrinsic.toml: it cannot be read as TOML: "),
    ],
)
def test_a_fault_of_a_file_is_one_sentence_with_place_key_and_remedy(
    places: Places, text: str, words: str
) -> None:
    places.project(text)
    (sentence,) = places.refused()
    assert words in sentence
    assert "\n" not in sentence
    assert len(sentence) < 1000


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ROUTING__TOPK", "1", "there is no setting INTRINSIC_ROUTING__TOPK; did you mean INTRINS"),
        ("ROUTNG__TOP_K", "1", "did you mean INTRINSIC_ROUTING__TOP_K?"),
        ("REGISTRI", "x", "did you mean INTRINSIC_REGISTRY?"),
        ("ZZZZZZ", "x", "there is no setting INTRINSIC_ZZZZZZ"),
        ("ROUTING", "x", "there is no setting INTRINSIC_ROUTING"),
        ("ROUTING__TOP_K", "x", "routing.top_k is 'x'; it must be a whole number"),
        ("GENERATION__STOP", "[", "generation.stop"),
        ("MANAGER__EXCLUSIVE", "[1", "it must be a list of lists of texts"),
    ],
)
def test_a_fault_of_the_environment_names_the_variable(
    places: Places, name: str, value: str, words: str
) -> None:
    sentences = places.refused(**{name: value})
    if name == "GENERATION__STOP":  # a text that begins like a list is still a text
        assert sentences == ()
        return
    (sentence,) = sentences
    assert sentence.startswith(f"environment INTRINSIC_{name}: ")
    assert words in sentence


def test_a_fault_of_a_flag_names_the_flag(places: Places) -> None:
    (sentence,) = places.refused({"routing.top_k": 0})
    assert sentence == "--top-k: routing.top_k is 0; it must be 1 or more"
    (unknown,) = places.refused({"routing.topk": 1})
    assert "did you mean 'routing.top_k'?" in unknown


def test_all_faults_of_all_places_are_told_at_once(places: Places) -> None:
    places.user("[bus]\nmax_in_flight = 0\nhandler_threads = 0\nmax_queued = 'many'\n")
    places.pyproject("[tool.intrinsic]\nmodl = 'x'\n")
    places.project(
        "[routing]\nthreshold = 3\nmin_weight = -1\nsession_s = 0\n[llm]\nlow = 0.9\nhigh = 0.95\n"
        "temperature = 0\n"
    )
    keys = [
        "modl", "bus.max_queued", "routing.top_k", "routing.threshold", "routing.min_weight",
        "routing.session_s", "llm.temperature", "bus.max_in_flight", "bus.handler_threads",
    ]  # fmt: skip
    sentences = places.refused({"routing.top_k": -1})
    assert len(sentences) == len(keys)
    for key in keys:
        assert sum(f" {key} " in s or f"{key!r}" in s for s in sentences) == 1, key


def test_a_value_below_that_is_overridden_may_be_wrong_but_its_key_may_not(places: Places) -> None:
    places.user("[routing]\ntop_k = 0\n")
    places.project("[routing]\ntop_k = 3\n")
    assert places.load().value("routing.top_k") == 3
    places.user("[routing]\ntopk = 0\n")
    assert "config.toml: unknown key 'routing.topk'" in "".join(places.refused())


def test_a_fault_of_a_table_that_is_merged_has_the_place_that_says_it(places: Places) -> None:
    user = places.user("[routing.memory_weights]\nknn_lm = 'x'\n")
    places.project("[routing.memory_weights]\nlogit_bias = 1\n")
    (sentence,) = places.refused(ROUTING__MEMORY_WEIGHTS__CONTEXT_STUFFING="1")
    assert sentence.startswith(f"{user}: routing.memory_weights.knn_lm is not valid")
    both = places.refused(ROUTING__MEMORY_WEIGHTS="x", ROUTING__MEMORY_WEIGHTS__KNN_LM="1")
    assert "environment INTRINSIC_ROUTING__MEMORY_WEIGHTS: " in both[0]


def test_files_that_cannot_be_read_are_told(places: Places) -> None:
    (places.here / "intrinsic.toml").mkdir()
    places.pyproject("[tool]\nintrinsic = 3\n")
    (places.home / "config.toml").write_bytes(b"model = '\xff'")
    folder, table, bytes_ = places.refused()
    assert "intrinsic.toml: it cannot be read as TOML: it is no regular file" in folder
    assert "it is no table of settings" in table
    assert "config.toml: it cannot be read as TOML" in bytes_


def test_the_adapter_of_the_embeddings_is_looked_at_when_settings_are_loaded(
    places: Places,
) -> None:
    def fault(path: Path) -> str:
        places.project(f'[embedding]\nlora_adapter_path = "{path.name}"\n')
        (sentence,) = places.refused()
        return sentence

    folder = places.here / "adapter"
    assert "does not exist" in fault(folder)
    folder.write_text("")
    assert "is no directory" in fault(folder)
    folder.unlink()
    folder.mkdir()
    assert "has no adapter_config.json" in fault(folder)
    write_adapter(folder, llama())
    places.project('[embedding]\nlora_adapter_path = "adapter"\n')
    assert places.load().embedding_options().lora_adapter_path == folder


def test_an_endpoint_without_its_extra_says_what_to_install(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "httpx" else there(name)
    )
    places.project('[llm.endpoint]\nbase_url = "http://localhost"\nmodel = "m"\n')
    (sentence,) = places.refused()
    assert "pip install 'intrinsic-lora[endpoint]'" in sentence


def test_the_error_is_one_of_settings_and_has_every_sentence(places: Places) -> None:
    places.project("a = 1\nb = 2\n")
    with pytest.raises(ConfigError) as caught:
        places.load()
    assert isinstance(caught.value, SettingsError)
    assert str(caught.value) == "\n".join(caught.value.sentences)
    assert len(caught.value.sentences) == 2
    assert pickle.loads(pickle.dumps(caught.value)).sentences == caught.value.sentences


NASTY: tuple[Any, ...] = (
    *(True, 0, -1, 2**70, 0.5, float("nan"), float("inf"), -1e300, "", "x", "none", "\0", "a\nb"),
    *([], ["x"], [1], [[]], {}, {"a": 1}, {"a": {"query": "x"}}, {"knn_lm": 0.5}, ["\0"]),
    *("://", "postgresql://a:b@c/d", "~nobody/x", "9" * 5000, "1e5", "٣"),
)


@pytest.mark.parametrize("path", KEYS)
def test_whatever_is_said_of_a_key_it_is_taken_or_refused_in_a_line(
    places: Places, path: str
) -> None:
    for value in NASTY:
        sentences = places.refused({path: value})
        if isinstance(value, str) and "\0" not in value:
            sentences += places.refused(**{KEYS[path].variable.removeprefix(PREFIX): value})
        assert all("\n" not in one and len(one) < 1000 for one in sentences), value
        assert all(path in one or path.split(".")[0] in one for one in sentences), value
