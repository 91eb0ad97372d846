"""`intrinsic ask`, `adapters` and `plugins`, on a tiny model of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from intrinsic.cli.app import app
from tests.cli.running import refuses
from tests.tiny import llama, tokenizer, write_adapter

MEDICAL = {
    "name": "medical",
    "domain": "medicine",
    "description": "answers questions about diseases",
    "keywords": ["disease", "symptoms"],
    "examples": ["what are the symptoms of the disease"],
}
LEGAL = {
    "name": "legal",
    "domain": "law",
    "description": "drafts contract clauses",
    "keywords": ["contract", "clause"],
    "examples": ["draft a contract clause"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    llama().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    for card in (MEDICAL, LEGAL):
        write_adapter(folder / str(card["name"]), llama(), card=card, seed=len(str(card)))
    return folder


def intrinsic(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ask(model: Path, adapters: Path, *arguments: object) -> Result:
    question = "what are the symptoms of this disease"
    return intrinsic(
        *("ask", question, "--model", model, "--adapters-dir", adapters, "--router", "keyword"),
        *("--max-tokens", 8, *arguments),
    )


def answer(model: Path, adapters: Path, *arguments: object) -> dict[str, Any]:
    result = ask(model, adapters, "--json", *arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_ask_routes_and_answers_under_the_mixture(model: Path, adapters: Path) -> None:
    adapted = answer(model, adapters)
    assert adapted["mixture"] == {"medical@1": 1.0}
    assert adapted["receipt"]["selections"][0]["confidence"] > 0.5
    base = answer(model, adapters, "--no-adapt")
    assert base["mixture"] == {}
    assert base["receipt"] is None
    assert len({adapted["answer"], base["answer"]}) == 2


def test_ask_in_shadow_mode_records_and_answers_with_the_base(model: Path, adapters: Path) -> None:
    shadow = answer(model, adapters, "--shadow")
    assert shadow["receipt"]["shadow"]
    assert shadow["receipt"]["selections"][0]["adapter"] == "medical"
    assert shadow["answer"] == answer(model, adapters, "--no-adapt")["answer"]


def test_ask_streams_the_answer_and_tells_the_route_apart(model: Path, adapters: Path) -> None:
    result = ask(model, adapters, "--explain")
    assert result.exit_code == 0
    assert result.stdout == answer(model, adapters)["answer"] + "\n"
    assert "medical x 1.00" in result.stderr
    assert "legal" in result.stderr
    assert "base model (nothing routed)" in ask(model, adapters, "--no-adapt").stderr
    assert "shadow mode" in ask(model, adapters, "--shadow").stderr


def test_ask_samples_by_seed(model: Path, adapters: Path) -> None:
    drawn = [
        answer(model, adapters, "--temperature", 1.5, "--seed", seed)["answer"]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_another_model_without_adapters_answers_with_the_base(model: Path) -> None:
    result = intrinsic("ask", "hello", "--model", model, "--router", "keyword", "--max-tokens", 4)
    assert result.exit_code == 0
    assert "name its adapters with --adapters-dir" in result.stderr
    assert "no adapter fits: base model" in result.stderr


def test_ask_uses_drop_in_plugins_and_names_broken_ones(
    model: Path, adapters: Path, tmp_path: Path
) -> None:
    (tmp_path / "always_legal.py").write_text(
        "from intrinsic import Selection, hookimpl\n"
        "@hookimpl\n"
        "def select_adapters(query):\n"
        "    return [Selection('legal', 1.0, 0.5, 'always')]\n"
    )
    (tmp_path / "broken.py").write_text("def (")
    result = ask(model, adapters, "--plugins", tmp_path, "--json")
    assert json.loads(result.stdout)["mixture"] == {"legal@1": 0.5}
    assert "broken.py" in result.stderr


def test_adapters_are_listed_for_people_and_programs(adapters: Path) -> None:
    listed = json.loads(intrinsic("adapters", "list", "--adapters-dir", adapters, "--json").stdout)
    assert [entry["name"] for entry in listed] == ["legal", "medical"]
    assert listed[0]["bytes"] > 0
    lines = intrinsic("adapters", "list", "--adapters-dir", adapters).stdout.splitlines()
    assert lines[0].split("\t")[:3] == ["name", "version", "domain"]
    assert lines[1].split("\t")[:3] == ["legal", "1", "law"]


def test_an_adapter_is_shown_with_its_files_checked(adapters: Path) -> None:
    shown = intrinsic("adapters", "show", "medical", "--adapters-dir", adapters, "--json")
    fields = json.loads(shown.stdout)
    assert fields["rank"] == [4]
    assert fields["scale"] == [2.0]
    assert fields["layers"] == 4
    assert len(fields["digest"]) == 64
    plain = intrinsic("adapters", "show", "medical", "--adapters-dir", adapters).stdout
    assert "keywords\tdisease; symptoms" in plain


def test_a_folder_with_a_broken_adapter_is_listed_with_a_word_about_it(tmp_path: Path) -> None:
    (write_adapter(tmp_path / "bad", llama()) / "adapter_config.json").write_text("{")
    result = intrinsic("adapters", "list", "--adapters-dir", tmp_path)
    assert result.exit_code == 0
    assert "is left out" in result.stderr


def test_plugins_are_listed_with_their_hooks() -> None:
    listed = json.loads(intrinsic("plugins", "--json").stdout)
    assert any("register_routers" in plugin["hooks"] for plugin in listed)
    assert {"name", "version", "source", "hooks"} == set(listed[0])
    folder = Path(__file__).parents[2] / "plugins"
    plain = intrinsic("plugins", "--plugins", folder).stdout
    assert "hashtag_routing" in plain
    assert "select_adapters" in plain


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["adapters", "show", "sqll"], "unknown adapter 'sqll'"),
        (["adapters", "list", "--adapters-dir", "/nowhere"], "/nowhere does not exist"),
        (["ask", "x", "--top-k", "0", "--model", "MODEL"], "top_k is 0"),
        (["ask", "x", "--router", "magic", "--model", "MODEL"], "unknown router 'magic'"),
        (["ask", "x", "--backend", "magic", "--model", "MODEL"], "unknown backend 'magic'"),
        (["ask", "x", "--model", "/nowhere"], "cannot load the model '/nowhere'"),
        (["ask", "", "--model", "MODEL", "--router", "keyword"], "the prompt is empty"),
        (["ask", "x", "--model", ""], "--model is empty"),
        (["ask", "x", "--model", "/nowhere"], "the folder does not exist"),
        (["ask", "x", "--seed", str(2**63)], f"seed is {2**63}"),
        (["ask", "\udcff", "--model", "MODEL"], "the question is not valid UTF-8 at position 0"),
        (["ask", "x", "--max-tokens", "0"], "max_new_tokens is 0"),
        (["ask", "x", "--plugins", "/nowhere", "--model", "MODEL"], "/nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: Path,
    arguments: list[str],
    words: str,
) -> None:
    given = [str(model) if argument == "MODEL" else argument for argument in arguments]
    refuses(monkeypatch, capsys, given, words)


def test_help_names_every_command() -> None:
    text = intrinsic("--help").stdout
    for command in ("demo", "ask", "adapters", "plugins"):
        assert command in text
