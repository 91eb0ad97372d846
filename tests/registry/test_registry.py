"""The registry: what a folder holds, by name, version and domain."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.card import AdapterCard
from intrinsic.errors import (
    AdapterExistsError,
    AdapterNotFoundError,
    CheckpointError,
    ConfigError,
)
from intrinsic.registry import AdapterRegistry
from intrinsic.registry.entry import AdapterEntry
from tests.tiny import write_files

CARD = {
    "name": "sql",
    "version": "1.2.0",
    "domain": "Coding",
    "description": "writes SQL",
    "keywords": ["select", "join"],
    "examples": ["count the rows"],
}

STEPS = ("put", "on", "off", "remove")


def adapter(folder: Path, card: Mapping[str, object] | None = None, **config: object) -> Path:
    return write_files(folder, {}, card, **config)


def toml(folder: Path, text: str) -> Path:
    (adapter(folder) / "card.toml").write_text(text)
    return folder


def test_a_folder_is_scanned_and_every_kind_of_card_is_read(tmp_path: Path) -> None:
    adapter(tmp_path / "json", CARD)
    toml(tmp_path / "toml", 'name = "law"\nversion = 2\nexamples = ["a clause"]\n')
    adapter(tmp_path / "config", domain="medical", description="d", keywords=["flu"])
    adapter(tmp_path / "bare", base_model_name_or_path="base")
    (tmp_path / "no adapter").mkdir()
    (tmp_path / "file.txt").write_text("")
    registry = AdapterRegistry.from_folder(tmp_path)
    assert [entry.key for entry in registry.list_adapters()] == [
        "bare@1",
        "config@1",
        "law@2",
        "sql@1.2.0",
    ]
    assert registry.problems == []
    assert registry.get_adapter("sql").card.keywords == ("select", "join")
    assert registry.get_adapter("law").card.examples == ("a clause",)
    assert registry.get_adapter("config").card.sentence == "medical: d"
    assert registry.get_adapter("bare").card.sentence == "bare"
    assert registry.get_adapter("bare").base_model == "base"
    assert len(registry) == 4


def test_a_folder_that_is_an_adapter_itself_is_one(tmp_path: Path) -> None:
    registry = AdapterRegistry.from_folder(adapter(tmp_path / "one"))
    assert [entry.name for entry in registry.list_adapters()] == ["one"]


def test_a_broken_adapter_is_reported_and_the_rest_is_registered(tmp_path: Path) -> None:
    adapter(tmp_path / "good")
    (adapter(tmp_path / "bad") / "adapter_config.json").write_text("{")
    (adapter(tmp_path / "list") / "adapter_config.json").write_text("[]")
    toml(tmp_path / "toml", "name = ")
    adapter(tmp_path / "field", {"nmae": "typo"})
    adapter(tmp_path / "string", {"keywords": "one, two"})
    registry = AdapterRegistry.from_folder(tmp_path)
    assert [entry.name for entry in registry.list_adapters()] == ["good"]
    why = {problem.path.name: problem.why for problem in registry.problems}
    assert "cannot be read as JSON" in why["bad"]
    assert "not an object" in why["list"]
    assert "cannot be read as TOML" in why["toml"]
    assert "unknown fields ['nmae']; known: name, version" in why["field"]
    assert "keywords of adapter 'string' is 'one, two'" in why["string"]


def test_scanning_again_finds_only_what_is_new(tmp_path: Path) -> None:
    adapter(tmp_path / "a")
    registry = AdapterRegistry.from_folder(tmp_path)
    adapter(tmp_path / "b")
    assert [entry.name for entry in registry.scan(tmp_path)] == ["b"]
    assert registry.scan(tmp_path) == []
    with pytest.raises(ConfigError, match="does not exist"):
        registry.scan(tmp_path / "nowhere")


def test_what_is_given_wins_over_the_card(tmp_path: Path) -> None:
    registry = AdapterRegistry()
    entry = registry.register_adapter(
        adapter(tmp_path, CARD), name="sql2", domain="data", keywords=["group by"], examples=[]
    )
    assert (entry.name, entry.card.version, entry.card.domain) == ("sql2", "1.2.0", "data")
    assert entry.card.keywords == ("group by",)
    assert entry.card.examples == ()
    assert entry.card.description == "writes SQL"


def test_a_name_means_its_newest_version_and_versions_count_by_number(tmp_path: Path) -> None:
    registry = AdapterRegistry()
    for version in ("1.9", "1.10", "1.2"):
        registry.register_adapter(adapter(tmp_path / version), name="sql", version=version)
    assert registry.get_adapter("sql").card.version == "1.10"
    assert registry.get_adapter("sql@1.2").card.version == "1.2"
    assert [entry.key for entry in registry.list_adapters()] == ["sql@1.10"]
    removed = registry.remove_adapter("sql")
    assert removed.card.version == "1.10"
    assert registry.get_adapter("sql").card.version == "1.9"


@pytest.mark.parametrize(
    ("taken", "free"), [(["1"], "2"), (["1.0.0", "1.0.1"], "1.0.2"), (["beta"], "beta1")]
)
def test_a_taken_version_is_a_conflict_that_names_the_next_free_one(
    tmp_path: Path, taken: list[str], free: str
) -> None:
    registry = AdapterRegistry()
    for version in taken:
        registry.register_adapter(adapter(tmp_path / version), name="sql", version=version)
    with pytest.raises(AdapterExistsError, match=f"next free version is '{free}'"):
        registry.register_adapter(adapter(tmp_path / "x"), name="sql", version=taken[0])
    assert len(registry) == len(taken)


def test_an_unknown_adapter_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    registry = AdapterRegistry.from_folder(adapter(tmp_path / "medical"))
    with pytest.raises(AdapterNotFoundError, match="did you mean 'medical'"):
        registry.get_adapter("medcal")
    with pytest.raises(AdapterNotFoundError, match="known: none"):
        AdapterRegistry().get_adapter("x")
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json"):
        registry.register_adapter(tmp_path)


def test_domains_are_found_in_any_case(tmp_path: Path) -> None:
    registry = AdapterRegistry()
    for name, domain in (("a", "Law"), ("b", "law"), ("c", "")):
        registry.register_adapter(adapter(tmp_path / name), name=name, domain=domain)
    assert [e.name for e in registry.get_adapters_for_domain("LAW")] == ["a", "b"]


def test_what_is_loaded_is_kept_in_order(tmp_path: Path) -> None:
    registry = AdapterRegistry(max_loaded=5)
    for key in ("a@1", "b@1", "a@1"):
        registry.mark_loaded(key)
    assert registry.loaded_adapters == ("a@1", "b@1")
    registry.mark_unloaded("a@1")
    registry.mark_unloaded("a@1")
    assert list(registry.loaded_adapters) == ["b@1"]
    assert registry.max_loaded == 5
    with pytest.raises(ConfigError, match="max_loaded is 0"):
        AdapterRegistry(max_loaded=0)


def test_extra_keys_of_the_config_may_be_a_card(tmp_path: Path) -> None:
    path = adapter(tmp_path / "x", domain="law", examples=["draft a clause"])
    config = json.loads((path / "adapter_config.json").read_text())
    assert config["domain"] == "law"
    assert AdapterRegistry().register_adapter(path).card.examples == ("draft a clause",)


def test_null_in_a_card_is_as_if_it_were_absent(tmp_path: Path) -> None:
    adapter(tmp_path / "card", dict.fromkeys(CARD), domain="law")
    adapter(tmp_path / "config", **dict.fromkeys(CARD))
    registry = AdapterRegistry.from_folder(tmp_path)
    assert [entry.key for entry in registry.list_adapters()] == ["card@1", "config@1"]
    assert registry.get_adapter("card").card.domain == "law"
    assert registry.problems == []


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"keywords": {"a": 1}}, "keywords of adapter 'bad'"),
        ({"examples": ["\ud800"]}, "examples of adapter 'bad'"),
        ({"version": "9" * 5000}, "version of adapter 'bad'.*1 to 64 printable characters"),
        ({"version": ""}, "version of adapter 'bad' is ''"),
        ({"version": "1@2"}, "version of adapter 'bad' is '1@2'.*without '@'"),
        ({"name": "good@1"}, "adapter name 'good@1' is not valid.*without '@'"),
        ({"name": "n" * 256}, "adapter name 'nnn.*at most 255 printable characters"),
    ],
)
def test_a_bad_card_is_a_problem_and_stops_no_other(
    tmp_path: Path, card: Mapping[str, object], words: str
) -> None:
    adapter(tmp_path / "bad", card)
    adapter(tmp_path / "good")
    registry = AdapterRegistry.from_folder(tmp_path)
    assert [entry.key for entry in registry.list_adapters()] == ["good@1"]
    assert re.search(words, registry.problems[0].why)
    assert len(registry.problems[0].why) < 250


def test_files_that_cannot_be_read_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter(tmp_path / "good")
    (adapter(tmp_path / "deep") / "adapter_config.json").write_text("[" * 200_000)
    toml(tmp_path / "deep toml", "name = " + "[" * 5_000)
    (adapter(tmp_path / "folder") / "card.toml").mkdir()
    locked = adapter(tmp_path / "locked") / "adapter_config.json"
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    registry = AdapterRegistry.from_folder(tmp_path)
    assert [entry.name for entry in registry.list_adapters()] == ["good"]
    why = {problem.path.name: problem.why for problem in registry.problems}
    assert "nested too deeply" in why["deep"]
    assert "nested too deeply" in why["deep toml"]
    assert "cannot be read as TOML" in why["folder"]
    assert "Permission denied" in why["locked"]


def test_versions_with_digits_that_are_no_numbers_are_in_order_too(tmp_path: Path) -> None:
    registry = AdapterRegistry()
    for version in ("1", "1²", "²"):
        registry.register_adapter(adapter(tmp_path / version), name="sql", version=version)
    assert registry.get_adapter("sql").key == "sql@1²"
    assert registry.get_adapter("sql@²").card.version == "²"


def entry(key: str, **fields: Any) -> AdapterEntry:
    name, _, version = key.partition("@")
    return AdapterEntry(AdapterCard(name, version, **fields), Path("/none"))


def test_names_whose_versions_were_never_switched_mean_the_newest() -> None:
    registry = AdapterRegistry()
    for key in ("a@1.9", "a@1.10", "a@1.2"):
        registry.put(entry(key))
    assert [e.key for e in registry.list_adapters()] == ["a@1.10"]
    assert [registry.is_active(key) for key in ("a@1.9", "a@1.10")] == [False, True]
    assert [e.key for e in registry.versions("a")] == ["a@1.2", "a@1.9", "a@1.10"]
    assert registry.versions("b") == []
    assert not registry.is_active("b@1")


def test_several_versions_may_be_active_and_the_name_means_the_newest_of_them() -> None:
    registry = AdapterRegistry()
    for key, active in {"a@1": True, "a@2": False, "a@10": True, "b@1": False}.items():
        registry.put(entry(key, domain="Math"), active=active)
    assert [e.key for e in registry.list_adapters()] == ["a@1", "a@10"]
    assert [e.key for e in registry.get_adapters_for_domain("math")] == ["a@1", "a@10"]
    assert registry.get_adapter("a").key == "a@10"
    registry.set_active("a@10", False)
    registry.set_active("a@10", False)
    assert registry.get_adapter("a").key == "a@1"
    assert registry.get_adapter("a@10").key == "a@10"
    registry.set_active("a@1", False)
    registry.set_active("a@2", True)
    assert [e.key for e in registry.list_adapters()] == ["a@2"]
    assert registry.is_active("a@2")


def test_a_name_without_an_active_version_says_which_there_are() -> None:
    registry = AdapterRegistry()
    registry.put(entry("a@10"), active=False)
    registry.put(entry("a@9"), active=False)
    assert registry.knows("a")
    assert registry.list_adapters() == []
    with pytest.raises(AdapterNotFoundError, match=r"'a' has no active version; .*a@9, a@10, or"):
        registry.get_adapter("a")
    with pytest.raises(AdapterNotFoundError, match="no active version"):
        registry.remove_adapter("a")
    with pytest.raises(AdapterNotFoundError):
        registry.set_active("b@1", True)
    registry.set_active("a@9", True)
    assert registry.get_adapter("a").key == "a@9"


def test_an_entry_takes_the_place_of_one_of_the_same_name_and_version() -> None:
    registry = AdapterRegistry()
    registry.put(entry("a@1"), active=False)
    assert registry.list_adapters() == []
    registry.put(entry("a@1", domain="new"))
    assert registry.list_adapters() == []  # it stays as it was switched
    registry.put(entry("a@1", domain="newer"), active=True)
    assert [e.card.domain for e in registry.list_adapters()] == ["newer"]
    assert len(registry) == 1


def test_whoever_asks_for_what_was_removed_is_told_why() -> None:
    registry = AdapterRegistry()
    for key in ("a@1", "a@2"):
        registry.put(entry(key), active=key == "a@2")
    assert registry.remove_adapter("a@2", why="'a@2' was too slow").key == "a@2"
    with pytest.raises(AdapterNotFoundError, match="'a@2' was too slow"):
        registry.get_adapter("a@2")
    with pytest.raises(AdapterNotFoundError, match="no active version; name one of a@1,"):
        registry.get_adapter("a")
    assert not registry.knows("a@2")
    assert not registry.is_active("a@2")
    registry.remove_adapter("a@1")
    with pytest.raises(AdapterNotFoundError, match="'a'"):
        registry.get_adapter("a")
    with pytest.raises(AdapterNotFoundError, match="'a@2' was too slow"):
        registry.get_adapter("a@2")
    registry.put(entry("a@2"))  # there is one again, and nothing of the name was ever switched
    assert registry.get_adapter("a").key == "a@2"
    registry.remove_adapter("a@2")
    with pytest.raises(AdapterNotFoundError, match="known: none"):
        registry.get_adapter("a@2")


def test_the_list_is_the_askers_own() -> None:
    registry = AdapterRegistry()
    registry.put(entry("a@1"))
    registry.list_adapters().clear()
    assert [e.key for e in registry.list_adapters()] == ["a@1"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(STEPS))))
def test_the_list_is_what_is_active_after_any_steps(steps: list[tuple[int, int, str]]) -> None:
    registry = AdapterRegistry()
    for name, version, step in steps:
        entry = AdapterEntry(AdapterCard("abc"[name], str(version)), Path(f"{name}{version}"))
        if step == "put":
            registry.put(entry)
        elif step in ("on", "off"):
            registry.put(entry, active=step == "on")
        elif registry.knows(entry.key):
            registry.remove_adapter(entry.key)
        listed = registry.list_adapters()
        assert {e.key for e in listed} == {
            entry.key
            for each in "abc"
            for entry in registry.versions(each)
            if registry.is_active(entry.key)
        }
        registry._listed = None
        assert registry.list_adapters() == listed
