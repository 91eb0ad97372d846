"""`intrinsic adapters verify`, `export` and `rescan`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from intrinsic.registry.inspection import digest_of
from tests.cli.running import printed, printed_list, refuses, run
from tests.registry.cataloguing import adapter


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTRINSIC_REGISTRY", raising=False)
    for name in ("sql", "math"):
        adapter(tmp_path / "adapters" / name)
    run("adapters", "register", "adapters", "--recursive")
    return tmp_path


def change(folder: Path) -> None:
    with (folder / "adapter_config.json").open("a") as file:
        file.write(" ")


def test_verify_ends_with_1_if_anything_is_not_ok(here: Path) -> None:
    assert [one["state"] for one in printed_list("adapters", "verify")] == ["ok", "ok"]
    change(here / "adapters" / "sql")
    result = run("adapters", "verify")
    assert result.exit_code == 1
    assert "sql@1\tchanged\t" in result.stdout
    assert result.stderr.splitlines()[-1] == "1 ok, 1 changed, 0 missing"
    assert run("adapters", "verify", "math").exit_code == 0
    shutil.rmtree(here / "adapters" / "math")
    result = run("adapters", "verify", "math@1", "--json")
    assert result.exit_code == 1
    assert '"state": "missing"' in result.stdout


def test_a_version_is_exported(here: Path) -> None:
    found = printed("adapters", "export", "sql", "--out", "given/away")
    assert found == {"exported": "sql@1", "path": str(here / "given" / "away")}
    assert digest_of(here / "given" / "away") == digest_of(here / "adapters" / "sql")
    run("adapters", "register", "given/away", "--version", 2, "--copy")
    again = run("adapters", "export", "sql@2", "--out", "given/away", "--force")
    assert again.stdout == f"sql@2 is in {here / 'given' / 'away'}\n"


def test_rescan_registers_what_is_new_and_tells_what_changed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter(here / "adapters" / "new")
    (here / "adapters" / "sql" / "card.toml").write_text('domain = "data"\n')
    change(here / "adapters" / "math")
    result = run("adapters", "rescan")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        "new@1\tregistered, active", "sql@1\tcard taken over", "math@1\tchanged",
    ]  # fmt: skip
    assert result.stderr.splitlines()[-1] == "1 new, 1 cards, 1 changed, 0 missing, 0 refused"
    assert printed("adapters", "show", "sql")["domain"] == "data"
    monkeypatch.setenv("HOME", str(here))  # ~ as a shell leaves it in --registry=~/adapters.db
    assert "no folder" not in run("adapters", "rescan", "--registry", "~/adapters.db").stderr
    elsewhere = (here / "adapters.db").rename(here / "elsewhere.db")
    told = run("adapters", "rescan", "--registry", elsewhere).stderr
    assert "no folder is searched for new adapters" in told
    elsewhere.rename(here / "adapters.db")
    (adapter(here / "other" / "bad") / "adapter_config.json").write_text("{")
    result = run("adapters", "rescan", "other", "--json")
    assert result.exit_code == 1
    assert '"why"' in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "nothing"], "unknown adapter 'nothing'"),
        (["export", "nothing", "--out", "x"], "unknown adapter 'nothing'"),
        (["export", "sql", "--out", "adapters/math"], "exists already"),
        (["export", "sql", "--out", "adapters/math", "--force"], "the folder of math@1 itself"),
        (["rescan", "nowhere"], "nowhere does not exist"),
        (["rescan", "--registry", "not.db"], "there is no registry not.db"),
    ],
)
def test_bad_input_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    refuses(monkeypatch, capsys, ["adapters", *arguments], words)
