"""`intrinsic config`, `intrinsic init`, and the settings that other commands start from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intrinsic.bundled import adapters_path
from intrinsic.cli.settings import FLAGS
from intrinsic.config import load_settings
from intrinsic.config.keys import KEYS
from tests.cli.running import listed, printed, refuses, run
from tests.registry.cataloguing import adapter


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTRINSIC_REGISTRY", raising=False)
    return tmp_path


def test_init_writes_a_file_that_changes_nothing_and_never_over_another(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_settings()
    assert run("init").exit_code == 0
    file = here / "intrinsic.toml"
    assert "# top_k = 2" in file.read_text()
    assert load_settings() == before
    file.write_text("[routing]\ntop_k = 3\n")
    refuses(monkeypatch, capsys, ["init"], "intrinsic.toml is there already")
    assert load_settings().value("routing.top_k") == 3
    assert run("init", "--force").exit_code == 0
    assert load_settings() == before


def test_show_tells_every_value_and_where_it_came_from(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "intrinsic.toml").write_text("[routing]\ntop_k = 3\n")
    monkeypatch.setenv("INTRINSIC_LLM__ENDPOINT__API_KEY", "sk-hidden")
    shown = printed("config", "show")
    assert list(shown) == list(KEYS)
    assert shown["routing.top_k"] == {"value": 3, "from": "intrinsic.toml"}
    assert shown["bus.handler_timeout_s"] == {"value": 30.0, "from": "default"}
    key = {"value": "***", "from": "environment INTRINSIC_LLM__ENDPOINT__API_KEY"}
    assert shown["llm.endpoint.api_key"] == key
    lines = run("config", "show").stdout.splitlines()
    assert lines[0] == "key\tvalue\tfrom"
    assert "routing.top_k\t3\tintrinsic.toml" in lines
    assert "sk-hidden" not in "".join(lines)


def test_check_lists_all_problems_and_ends_with_1(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("config", "check").exit_code == 0
    (here / "intrinsic.toml").write_text(
        'modell = "x"\nadapters = "none-here"\nmodel = "/nowhere"\n[routing]\nthreshold = 3\n'
    )
    monkeypatch.setenv("INTRINSIC_ROUTING__ROUTER", "hybird")
    result = run("config", "check", "--json")
    assert result.exit_code == 1
    faults = json.loads(result.stdout)["faults"]
    assert {one["key"] for one in faults} == {
        "modell", "routing.threshold", "routing.router", "model", "adapters",
    }  # fmt: skip
    assert {"key": "routing.router", "from": "environment INTRINSIC_ROUTING__ROUTER"}.items() <= (
        next(one for one in faults if one["key"] == "routing.router").items()
    )
    plain = run("config", "check")
    assert plain.exit_code == 1
    assert len(plain.stdout.splitlines()) == 5
    assert "5 problems" in plain.stderr


def test_a_registry_that_is_not_there_is_a_problem(here: Path) -> None:
    (here / "intrinsic.toml").write_text('registry = "no.db"\n')
    result = run("config", "check")
    assert result.exit_code == 1
    assert "there is no registry" in result.stdout
    assert not (here / "no.db").exists()


def test_wrong_settings_stop_every_command_with_a_sentence_for_each(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "intrinsic.toml").write_text("topk = 3\n[routing]\nthreshold = 3\n")
    for command in (["route", "x"], ["adapters", "list"], ["plugins"], ["config", "show"]):
        refuses(monkeypatch, capsys, command, "routing.threshold is 3.0")
    monkeypatch.setattr("sys.argv", ["intrinsic", "adapters", "list"])
    from intrinsic.cli import main

    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("intrinsic: intrinsic.toml: ") for line in lines)


def test_two_projects_list_their_own_adapters_and_a_variable_another_for_once(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for project, name in (("one", "sql"), ("two", "math")):
        adapter(here / project / "tuned" / name, name=name)
        (here / project / "intrinsic.toml").write_text('adapters = "tuned"\n')
    monkeypatch.chdir(here / "one")
    assert listed() == ["sql@1"]
    monkeypatch.setenv("INTRINSIC_ADAPTERS", str(here / "two" / "tuned"))
    assert listed() == ["math@1"]
    monkeypatch.delenv("INTRINSIC_ADAPTERS")
    assert listed() == ["sql@1"]
    assert listed("--adapters-dir", here / "two" / "tuned") == ["math@1"]
    monkeypatch.chdir(here / "two")
    assert listed() == ["math@1"]


def test_the_registry_of_the_settings_is_made_and_used(here: Path) -> None:
    adapter(here / "sql", name="sql")
    (here / "pyproject.toml").write_text('[tool.intrinsic]\nregistry = "team.db"\n')
    assert run("adapters", "register", "sql").exit_code == 0
    assert (here / "team.db").exists()
    assert listed() == ["sql@1"]


def test_route_takes_router_and_limits_of_the_settings(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "intrinsic.toml").write_text("[routing]\nrouter = 'keyword'\nthreshold = 1.0\n")
    question = ["route", "how is asthma treated"]
    assert printed(*question)["selections"] == []
    monkeypatch.setenv("INTRINSIC_ROUTING__THRESHOLD", "0.2")
    assert printed(*question)["selections"][0]["adapter"] == "medical"
    refuses(monkeypatch, capsys, [*question, "--router", "hybird"], "unknown router 'hybird'")
    refuses(monkeypatch, capsys, [*question, "--top-k", "0"], "--top-k: routing.top_k is 0")


def test_ask_takes_generation_and_shadow_of_the_settings(here: Path) -> None:
    (here / "intrinsic.toml").write_text(
        f'adapters = "{adapters_path()}"\n[routing]\nrouter = "keyword"\n'
        "[generation]\nmax_new_tokens = 2\n[bus]\nshadow = true\n"
    )
    said = printed("ask", "how is asthma treated")
    assert said["receipt"]["shadow"]
    assert not printed("ask", "how is asthma treated", "--no-shadow")["receipt"]["shadow"]
    longer = printed("ask", "how is asthma treated", "--max-tokens", 12)
    assert len(longer["answer"]) > len(said["answer"])


def test_a_calibration_of_the_settings_is_for_routers_that_use_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "c.json").write_text('{"slope": 9.0, "shift": -40.0, "queries": 50}')
    question = ["route", "how is asthma treated", "--router", "keyword", "--explain"]
    plain = printed(*question)["candidates"][0]["confidence"]
    (here / "intrinsic.toml").write_text('[routing]\ncalibration = "c.json"\n')
    assert printed(*question)["candidates"][0]["confidence"] < plain
    flag = ["ask", "x", "--router", "llm", "--calibration", "c.json"]
    refuses(monkeypatch, capsys, flag, "is not used by router 'llm'")


def test_flags_are_called_what_they_are() -> None:
    assert set(FLAGS) <= set(KEYS)
    served = {flag for key, flag in FLAGS.items() if key.startswith("server.")}
    decoded = {flag for key, flag in FLAGS.items() if key.startswith("generation.")}
    for command, flags in (
        ("ask", set(FLAGS.values()) - served),
        ("serve", set(FLAGS.values()) - decoded),
        ("route TEXT", {"--router", "--top-k", "--calibration", "--adapters-dir", "--registry"}),
    ):
        text = run(*command.split(), "--help").stdout
        assert all(flag in text for flag in flags), command
