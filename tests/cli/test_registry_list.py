"""`intrinsic adapters list`, `show` and `history` of a registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import listed, printed, printed_list, refuses, run
from tests.registry.cataloguing import adapter


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTRINSIC_REGISTRY", raising=False)
    folder = adapter(tmp_path / "made", base_model_name_or_path="org/base")
    for name, version, domain in (
        ("sql", "1.9.0", "Data"), ("sql", "1.10.0", "Data"), ("math", "1", "numbers"),
        ("old", "1", "data"),
    ):  # fmt: skip
        run(
            *("adapters", "register", folder, "--name", name, "--version", version),
            *("--domain", domain),
        )
    run("adapters", "delete", "old", "--yes")
    return tmp_path


def test_versions_are_filtered_sorted_and_paged() -> None:
    assert listed() == ["math@1", "sql@1.9.0", "sql@1.10.0"]
    assert listed("--active") == ["math@1", "sql@1.9.0"]
    assert listed("--inactive") == ["sql@1.10.0"]
    assert listed("--domain", "data") == ["sql@1.9.0", "sql@1.10.0"]
    assert listed("--name", "m*") == ["math@1"]
    assert listed("--base-model", "org/base", "--deleted")[1] == "old@1"
    assert listed("--base-model", "org/other") == []
    assert listed("--trained-here") == []
    assert listed("--sort", "version", "--descending")[0] == "sql@1.10.0"
    assert listed("--limit", 1, "--offset", 1) == ["sql@1.9.0"]


def test_people_get_a_table_and_are_told_that_there_is_more() -> None:
    result = run("adapters", "list", "--deleted", "--limit", 2)
    assert [line.split("\t")[:4] for line in result.stdout.splitlines()] == [
        ["name", "version", "active", "domain"],
        ["math", "1", "yes", "numbers"],
        ["old", "1", "deleted", "data"],
    ]
    assert "2 of 4" in result.stderr


def test_details_are_for_programs_and_for_people(here: Path) -> None:
    found = printed("adapters", "show", "sql")
    assert (found["version"], found["active"], found["rank"]) == ("1.9.0", True, [4])
    assert (found["usage"]["routed"], found["feedback"]["ratings"]["count"]) == (0, 0)
    assert "loaded" not in found
    assert printed("adapters", "show", "sql@1.10.0")["active"] is False
    lines = run("adapters", "show", "sql").stdout.splitlines()
    assert "active\tyes" in lines
    assert "usage.routed\t0" in lines
    assert f"path\t{(here / 'made').resolve()}" in lines


def test_the_history_of_a_deleted_version_stays() -> None:
    events = [(one["event"], one["version"]) for one in printed_list("adapters", "history", "old")]
    assert events == [("registered", "1"), ("activated", "1"), ("deleted", "1")]
    lines = run("adapters", "history", "sql").stdout.splitlines()
    assert [line.split("\t")[1:3] for line in lines[1:]] == [
        ["sql@1.9.0", "registered"], ["sql@1.9.0", "activated"], ["sql@1.10.0", "registered"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "sqll"], "unknown adapter 'sqll'"),
        (["show", "old"], "'old@1' was deleted"),
        (["show", "sql@7"], "it has 1.9.0, 1.10.0"),
        (["history", "nothing"], "unknown adapter 'nothing'"),
        (["list", "--sort", "size"], "it must be name, version, created, bytes, domain"),
        (["list", "--limit", "0"], "it must be 1 to 10,000"),
    ],
)
def test_bad_input_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    refuses(monkeypatch, capsys, ["adapters", *arguments], words)


def test_without_a_registry_only_a_plain_list_is_of_a_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "adapters.db").unlink()
    adapter(here / "team" / "sql")
    assert listed("--adapters-dir", "team") == ["sql@1"]
    assert printed("adapters", "show", "sql", "--adapters-dir", "team")["scale"] == [2.0]
    for command in (["list", "--active"], ["history", "sql"], ["verify"], ["activate", "sql"]):
        given = ["adapters", *command, "--adapters-dir", "team"]
        refuses(monkeypatch, capsys, given, "'intrinsic adapters register PATH' makes one")
        assert not (here / "team.db").exists()


def test_nothing_but_registering_and_exporting_imports_torch(here: Path) -> None:
    commands = [
        ["list"], ["show", "sql"], ["history", "sql"], ["activate", "sql@1.10.0"],
        ["deactivate", "sql"], ["rename", "math", "maths"], ["rate", "sql@1.9.0", "4"],
        ["prefer", "sql@1.9.0", "base", "--outcome", "tie"], ["compare", "sql"], ["verify"],
        ["delete", "maths", "--yes"], ["card", "sql", "--domain", "x"], ["list", "--registry",
        "adapters.db", "--json"],
    ]  # fmt: skip
    code = f"""
import sys
from intrinsic.cli import main
for command in {commands!r}:
    sys.argv = ["intrinsic", "adapters", *command]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (command, ended.code)
    assert "torch" not in sys.modules, command
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout[done.stdout.rindex("\n[\n") :])[0]["name"] == "sql"
