"""`intrinsic adapters register`: a folder, a file, many; and which registry is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import listed, printed, printed_list, refuses, run
from tests.registry.cataloguing import adapter


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTRINSIC_REGISTRY", raising=False)
    return tmp_path


def test_a_folder_is_registered_with_what_is_said(here: Path) -> None:
    folder = adapter(here / "sql", domain="of the file", examples=["select"])
    made = printed(
        *("adapters", "register", folder, "--name", "query", "--version", "1.2.0"),
        *("--domain", "data", "--description", "writes SQL", "--base-model", "org/base"),
        *("--keyword", "table", "--keyword", "join"),
    )
    assert (made["name"], made["version"], made["active"]) == ("query", "1.2.0", True)
    assert (made["domain"], made["keywords"]) == ("data", ["table", "join"])
    assert (made["examples"], made["base_model"]) == (["select"], "org/base")
    assert (made["path"], made["copied"]) == (str(folder.resolve()), False)
    assert (here / "adapters.db").exists()
    assert listed() == ["query@1.2.0"]


def test_a_later_version_is_active_only_if_asked_for(here: Path) -> None:
    folder = adapter(here / "sql", version="1")
    assert printed("adapters", "register", folder)["active"]
    assert not printed("adapters", "register", folder, "--version", 2)["active"]
    assert printed("adapters", "register", folder, "--version", 3, "--activate")["active"]
    other = printed("adapters", "register", folder, "--name", "new", "--no-activate")
    assert not other["active"]
    plain = run("adapters", "register", folder, "--version", 4).stdout
    assert plain == "sql@4 is registered, not active\n"


def test_copies_outlive_their_source(here: Path) -> None:
    folder = adapter(here / "sql")
    made = printed("adapters", "register", folder, "--copy")
    assert Path(made["path"]).parent == (here / "adapters.db.files").resolve()
    elsewhere = printed(
        "adapters", "register", folder, "--version", 2, "--copy", "--files", here / "kept"
    )
    assert Path(elsewhere["path"]).parent == here / "kept"


def test_a_single_file_goes_into_the_registrys_own_files(here: Path) -> None:
    folder = adapter(here / "sql")
    weights = (folder / "adapter_model.safetensors").rename(here / "poems.safetensors")
    (folder / "adapter_config.json").rename(here / "poems.json")
    made = printed("adapters", "register", weights)
    assert (made["name"], made["copied"]) == ("poems", True)
    assert Path(made["path"]).parent == here / "adapters.db.files"
    in_folder = adapter(here / "math") / "adapter_model.safetensors"
    assert printed("adapters", "register", in_folder)["name"] == "math"


def test_a_folder_of_many_is_registered_with_a_summary(here: Path) -> None:
    for name in ("sql", "math"):
        adapter(here / "many" / "deep" / name)
    (adapter(here / "many" / "broken") / "adapter_config.json").write_text("{")
    result = run("adapters", "register", "many", "--recursive", "--domain", "all")
    assert result.exit_code == 1
    assert [line.split("\t")[:3] for line in result.stdout.splitlines()] == [
        ["name", "version", "active"], ["math", "1", "yes"], ["sql", "1", "yes"],
    ]  # fmt: skip
    assert "intrinsic: refused: " in result.stderr
    assert result.stderr.splitlines()[-1] == "2 registered, 0 known before, 1 refused"
    (here / "many" / "broken" / "adapter_config.json").unlink()
    (here / "many" / "broken" / "adapter_model.safetensors").unlink()
    again = printed("adapters", "register", "many", "--recursive")
    assert (again["registered"], again["known"]) == ([], ["math@1", "sql@1"])
    assert {one["domain"] for one in printed_list("adapters", "list")} == {"all"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["many"], "add --recursive"),
        (["many", "--recursive", "--name", "x"], "--name is for one adapter"),
        (["empty", "--recursive"], "there is no adapter in empty"),
        (["many/broken"], "adapter_config.json cannot be read as JSON"),
        (["weights.bin"], "is a pickle"),
        (["many/sql", "--name", "a@b"], "adapter name 'a@b' is not valid"),
        (["many/sql", "--registry", "x.db", "--adapters-dir", "many"], "use one of them"),
        (["many/sql", "--registry", ""], "--registry is empty"),
        (["many/sql", "--registry", "mysql://h/d"], "cannot be kept in 'mysql'"),
    ],
)
def test_what_cannot_be_registered_is_one_sentence_and_makes_no_registry(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: Path,
    arguments: list[str],
    words: str,
) -> None:
    adapter(here / "many" / "sql")
    (adapter(here / "many" / "broken") / "adapter_config.json").write_text("{")
    (here / "weights.bin").touch()
    (here / "empty").mkdir()
    refuses(monkeypatch, capsys, ["adapters", "register", *arguments], words)
    assert not list(here.glob("*.db*"))


def test_a_taken_version_is_refused_with_the_next_free_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    folder = adapter(here / "sql", version="1.2.3")
    run("adapters", "register", folder)
    given = ["adapters", "register", str(folder), "--copy"]
    refuses(monkeypatch, capsys, given, "the next free version is '1.2.4'")
    assert not list((here / "adapters.db.files").glob("*"))


def test_the_registry_is_that_of_the_option_the_folder_the_environment_or_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    folder = adapter(here / "team" / "sql")
    run("adapters", "register", folder, "--name", "option", "--registry", "some/where.db")
    run("adapters", "register", folder, "--name", "folder", "--adapters-dir", "team/")
    run("adapters", "register", folder, "--name", "default")
    monkeypatch.setenv("INTRINSIC_REGISTRY", str(here / "environment.db"))
    run("adapters", "register", folder, "--name", "environment")
    assert (here / "team.db").exists()
    assert listed() == ["environment@1"]
    assert listed("--registry", "some/where.db") == ["option@1"]
    assert listed("--registry", f"sqlite:///{here}/some/where.db") == ["option@1"]
    assert listed("--adapters-dir", "team") == ["folder@1"]
    monkeypatch.delenv("INTRINSIC_REGISTRY")
    assert listed() == ["default@1"]
    adapter(here / "plain" / "math")
    assert listed("--adapters-dir", "plain") == ["math@1"]  # a folder without a registry
    given = ["adapters", "list", "--registry", "not.db"]
    refuses(monkeypatch, capsys, given, "'intrinsic adapters register PATH' makes one")
    assert not (here / "not.db").exists()
