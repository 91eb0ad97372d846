"""`intrinsic adapters activate`, `deactivate`, `rename`, `delete`, and `card` of a registry."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from intrinsic.cli.app import app
from tests.cli.running import listed, printed, refuses, run
from tests.registry.cataloguing import adapter


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTRINSIC_REGISTRY", raising=False)
    folder = adapter(tmp_path / "made")
    for version in (1, 2, 3):
        run("adapters", "register", folder, "--name", "sql", "--version", version)
    run("adapters", "register", folder, "--name", "math")
    return tmp_path


def active() -> list[str]:
    return listed("--active")


def test_one_version_is_active_unless_others_are_kept() -> None:
    assert active() == ["math@1", "sql@1"]
    found = printed("adapters", "activate", "sql@2")
    assert found == {"activated": "sql@2", "deactivated": ["sql@1"]}
    assert run("adapters", "activate", "sql@3", "--keep-others").stdout == "sql@3 is active\n"
    assert active() == ["math@1", "sql@2", "sql@3"]
    assert run("adapters", "activate", "sql@1").stdout == (
        "sql@1 is active, sql@2, sql@3 not any more\n"
    )


def test_a_version_or_all_of_a_name_are_deactivated() -> None:
    run("adapters", "activate", "sql@2", "--keep-others")
    run("adapters", "activate", "sql@3", "--keep-others")
    assert printed("adapters", "deactivate", "sql@2") == {"deactivated": ["sql@2"]}
    assert printed("adapters", "deactivate", "sql@2") == {"deactivated": []}
    assert run("adapters", "deactivate", "sql").stdout == "sql@1, sql@3 are not active any more\n"
    assert run("adapters", "deactivate", "sql").stdout == "sql was not active\n"
    assert active() == ["math@1"]


def test_all_versions_of_a_name_are_renamed() -> None:
    found = printed("adapters", "rename", "sql", "query")
    assert found == {"renamed": ["query@1", "query@2", "query@3"]}
    assert active() == ["math@1", "query@1"]


def test_a_version_is_deleted_when_somebody_says_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed("adapters", "delete", "sql@2", "--yes") == {"deleted": "sql@2"}
    asked: list[str] = []

    def answer(text: str, **_: object) -> bool:
        asked.append(text)
        return len(asked) > 1

    monkeypatch.setattr(sys, "stdin", _Terminal())
    monkeypatch.setattr(typer, "confirm", answer)
    for code in (1, 0):
        with pytest.raises(SystemExit) as ended:
            app(["adapters", "delete", "math"])
        assert ended.value.code == code
    assert asked == ["Delete math@1 for ever?"] * 2
    assert active() == ["sql@1"]


class _Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["activate", "sql@9"], "it has 1, 2, 3"),
        (["deactivate", "nothing"], "unknown adapter 'nothing'"),
        (["rename", "sql", "math"], "there are versions of that name"),
        (["rename", "sql@1", "query"], "pass the name alone"),
        (["delete", "sql", "--yes"], "name one of sql@1, sql@2, sql@3"),
        (["delete", "sql@1"], "nobody can be asked here; add --yes"),
        (["delete", "sql@9", "--yes"], "it has 1, 2, 3"),
        (["card", "sql@9"], "it has 1, 2, 3"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    before = printed("adapters", "list")
    refuses(monkeypatch, capsys, ["adapters", *arguments], words)
    assert printed("adapters", "list") == before


def test_a_card_is_edited_in_the_registry_and_not_in_the_files(here: Path) -> None:
    found = printed("adapters", "card", "sql@2", "--domain", "data", "--add-example", "select")
    assert (found["written"], found["domain"], found["examples"]) == (True, "data", ["select"])
    assert printed("adapters", "show", "sql@2")["examples"] == ["select"]
    assert printed("adapters", "show", "sql@1")["examples"] == []
    assert not (here / "made" / "card.toml").exists()
    assert not printed("adapters", "card", "sql@2", "--domain", "data")["written"]
    assert printed("adapters", "rescan")["cards"] == []


def test_versions_of_a_registry_are_merged(here: Path) -> None:
    found = printed("adapters", "merge", "sql@2=0.5", "math=0.5", "--out", "mixed")
    assert found["mixture"] == {"math@1": 0.5, "sql@2": 0.5}
