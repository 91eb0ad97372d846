"""A card.toml is changed where it must be, and nowhere else."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tomlkit.items import Array

from intrinsic import bundled
from intrinsic.card import AdapterCard
from intrinsic.errors import AdapterError, ConfigError
from intrinsic.registry import AdapterEntry
from intrinsic.registry.card_file import write_card
from intrinsic.registry.entry import read_entry

WRITTEN = """\
# Who answers what.
name = "medical"   # the name
version = 2
description = "Answers."  # short

examples = [
    # as users ask
    "how is asthma treated",  # the first
    "my back hurts",
    # from a log
    "is it a cold",
]
keywords = ["pain", "doctor"]
"""


def adapter(folder: Path, toml: str | None = None, **config: object) -> AdapterEntry:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | config))
    if toml is not None:
        (folder / "card.toml").write_bytes(toml.encode())
    return read_entry(folder)


def test_what_is_not_changed_keeps_its_place_and_its_comment(tmp_path: Path) -> None:
    entry = adapter(tmp_path, WRITTEN)
    write_card(entry, entry.card)
    assert (tmp_path / "card.toml").read_text() == WRITTEN
    changed = replace(
        entry.card,
        description="Answers patients.",
        examples=("how is asthma treated", "is it a cold", "why do I cough"),
        negatives=("my computer has a virus",),
        threshold=0.0,
    )
    write_card(entry, changed)
    text = (tmp_path / "card.toml").read_text()
    assert read_entry(tmp_path).card == changed
    assert text.startswith(WRITTEN.replace('"Answers."', '"Answers patients."')[:90])
    assert '"how is asthma treated",  # the first\n' in text
    assert '    # from a log\n    "is it a cold",\n    "why do I cough",\n]\n' in text
    assert "my back hurts" not in text
    assert 'keywords = ["pain", "doctor"]\nnegatives = [\n    "my computer' in text
    assert text.endswith("threshold = 0.0\n")


def test_what_moves_leaves_the_others_where_they_are(tmp_path: Path) -> None:
    entry = adapter(tmp_path, WRITTEN)
    moved = ("new", "how is asthma treated", "mid", "is it a cold")
    write_card(entry, replace(entry.card, examples=moved))
    text = (tmp_path / "card.toml").read_text()
    assert read_entry(tmp_path).card.examples == moved
    assert '"how is asthma treated",  # the first\n' in text
    assert '"is it a cold",\n]' in text


def test_many_are_added_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = adapter(tmp_path, WRITTEN)
    inserted: list[int] = []
    insert = Array.insert

    def count(self: Array, at: int, value: object) -> None:
        inserted.append(at)
        insert(self, at, value)

    monkeypatch.setattr(Array, "insert", count)
    many = tuple(f'query "{n}"\n' for n in range(500))
    changed = replace(
        entry.card,
        examples=(*entry.card.examples, *many),
        keywords=("pain", "doctor", *many),
        negatives=many,
    )
    write_card(entry, changed)
    assert read_entry(tmp_path).card == changed
    assert inserted == []
    text = (tmp_path / "card.toml").read_text()
    assert '"how is asthma treated",  # the first\n' in text
    assert '\n    "query \\"0\\"\\n",\n' in text


def test_a_link_to_a_file_in_the_folder_stays_one(tmp_path: Path) -> None:
    entry = adapter(tmp_path / "m")
    (entry.path / "real.toml").write_text(WRITTEN)
    (entry.path / "card.toml").symlink_to("real.toml")
    entry = read_entry(entry.path)
    write_card(entry, replace(entry.card, domain="x"))
    assert (entry.path / "card.toml").is_symlink()
    assert 'domain = "x"' in (entry.path / "real.toml").read_text()
    outside = tmp_path / "outside.toml"
    outside.write_text(WRITTEN)
    (entry.path / "card.toml").unlink()
    (entry.path / "card.toml").symlink_to(outside)
    write_card(entry, replace(entry.card, domain="y"))
    assert outside.read_text() == WRITTEN
    assert read_entry(entry.path).card.domain == "y"


def test_windows_line_ends_stay(tmp_path: Path) -> None:
    entry = adapter(tmp_path, WRITTEN.replace("\n", "\r\n"))
    write_card(entry, replace(entry.card, description="Other."))
    data = (tmp_path / "card.toml").read_bytes()
    assert data == WRITTEN.replace("Answers.", "Other.").replace("\n", "\r\n").encode()


def test_a_threshold_is_taken_back_and_lists_emptied(tmp_path: Path) -> None:
    entry = adapter(tmp_path, 'threshold = 0.7\nmust = ["x"]\n')
    write_card(entry, replace(entry.card, threshold=None, must=()))
    assert read_entry(tmp_path).card == AdapterCard(tmp_path.name)
    assert (tmp_path / "card.toml").read_text() == "must = []\n"


def test_a_card_json_becomes_a_card_toml_that_stands_before_it(tmp_path: Path) -> None:
    card = {"name": "m", "domain": "medicine", "examples": ["a cough"], "version": 3}
    (tmp_path / "card.json").write_text(json.dumps(card))
    entry = adapter(tmp_path)
    changed = replace(entry.card, examples=("a cough", "a cold"))
    assert write_card(entry, changed) == tmp_path / "card.toml"
    assert read_entry(tmp_path).card == changed
    assert json.loads((tmp_path / "card.json").read_text()) == card
    assert "threshold" not in tomllib.loads((tmp_path / "card.toml").read_text())


def test_what_the_config_says_is_spoken_against_even_with_nothing(tmp_path: Path) -> None:
    entry = adapter(tmp_path, description="old", keywords=["a"], domain="d")
    changed = replace(entry.card, description="", keywords=())
    write_card(entry, changed)
    assert read_entry(tmp_path).card == changed
    entry = adapter(tmp_path, threshold=0.4)
    with pytest.raises(ConfigError, match=r"threshold is set in adapter_config\.json"):
        write_card(entry, replace(entry.card, threshold=None))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(
            st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=5),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
            st.none() | st.floats(0, 1),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_is_written_is_read_again(
    tmp_path: Path, steps: list[tuple[list[str], str, float | None]]
) -> None:
    entry = adapter(tmp_path, WRITTEN)
    for texts, word, threshold in steps:
        card = replace(
            entry.card, examples=tuple(texts), description=word, group=word, threshold=threshold
        )
        write_card(entry, card)
        assert read_entry(tmp_path).card == card


def test_what_fails_leaves_the_old_card_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = adapter(tmp_path, WRITTEN)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(AdapterError, match="No space left on device; copy the adapter"):
        write_card(entry, replace(entry.card, domain="x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "card.toml"]
    assert (tmp_path / "card.toml").read_text() == WRITTEN


def test_the_installed_packages_adapters_are_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = adapter(tmp_path / "bundled" / "adapters" / "medical", WRITTEN)
    monkeypatch.setattr(bundled, "_HERE", tmp_path / "bundled")
    with pytest.raises(AdapterError, match="belongs to the installed package and is not changed"):
        write_card(entry, replace(entry.card, domain="x"))
    assert (entry.path / "card.toml").read_text() == WRITTEN


def test_a_file_keeps_its_mode_and_a_new_one_is_ordinary(tmp_path: Path) -> None:
    entry = adapter(tmp_path, WRITTEN)
    (tmp_path / "card.toml").chmod(0o640)
    write_card(entry, replace(entry.card, domain="x"))
    assert (tmp_path / "card.toml").stat().st_mode & 0o777 == 0o640
    other = adapter(tmp_path / "other")
    made = write_card(other, replace(other.card, domain="x"))
    assert made.stat().st_mode == (tmp_path / "other" / "adapter_config.json").stat().st_mode
