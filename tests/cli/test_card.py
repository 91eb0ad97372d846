"""`intrinsic adapters card`: shown, edited, added to; checked before anything is written."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from intrinsic import bundled
from intrinsic.card import AdapterCard
from intrinsic.cli import main
from intrinsic.cli.app import app
from intrinsic.cli.suggest import fresh, prompt_for
from intrinsic.registry import AdapterEntry, AdapterRegistry
from intrinsic.registry.card_file import write_card
from intrinsic.registry.entry import read_entry
from tests.cli.running import printed, refuses, run
from tests.tiny import write_files

TOML = """\
# by hand
name = "medical"
description = "Answers."
keywords = ["pain", "cough"]
examples = [
    "how is asthma treated",  # keep
    "why do I cough",
]
"""


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    folder = tmp_path / "adapters"
    write_files(folder / "medical", {}, target_modules=["q_proj"])
    (folder / "medical" / "card.toml").write_text(TOML)
    write_files(folder / "legal", {}, {"domain": "law"}, target_modules=["q_proj"])
    return folder


def card(adapters: Path, *arguments: object) -> Result:
    return run("adapters", "card", *arguments, "--adapters-dir", adapters)


def edited(adapters: Path, *arguments: object) -> dict[str, Any]:
    return printed("adapters", "card", *arguments, "--adapters-dir", adapters)


def on_disk(adapters: Path, name: str = "medical") -> AdapterCard:
    return AdapterRegistry.from_folder(adapters).get_adapter(name).card


def test_a_card_is_shown_and_not_touched(adapters: Path) -> None:
    shown = edited(adapters, "medical@1")
    assert shown["examples"] == ["how is asthma treated", "why do I cough"]
    assert (shown["threshold"], shown["written"]) == (None, False)
    plain = card(adapters, "medical")
    assert "keywords\tpain; cough" in plain.stdout
    assert "threshold\tthe router's own" in plain.stdout
    assert "is written" not in plain.stderr
    assert (adapters / "medical" / "card.toml").read_text() == TOML


def test_every_field_can_be_edited_and_comments_stay(adapters: Path, tmp_path: Path) -> None:
    lines = tmp_path / "examples.txt"
    lines.write_text("\ufeffmy knee hurts\n\n  is it a cold \r\nwhy do I cough\n")
    result = card(
        *(adapters, "medical", "--description", "Answers patients.", "--domain", " medicine "),
        *("--add-keyword", "asthma", "--add-keyword", "pain", "--remove-keyword", "cough"),
        *("--remove-example", "why do I cough", "--add-example", "new", "--examples-from", lines),
        *("--add-negative", "my computer has a virus", "--add-must", "icd", "--add-never", "tax"),
        *("--group", "experts", "--threshold", "0.6"),
    )
    assert result.exit_code == 0, result.output
    assert "card.toml is written" in result.stderr
    assert on_disk(adapters) == AdapterCard(
        "medical",
        description="Answers patients.",
        domain="medicine",
        keywords=("pain", "asthma"),
        examples=(
            "how is asthma treated",
            "new",
            "my knee hurts",
            "is it a cold",
            "why do I cough",
        ),
        negatives=("my computer has a virus",),
        must=("icd",),
        never=("tax",),
        group="experts",
        threshold=0.6,
    )
    text = (adapters / "medical" / "card.toml").read_text()
    assert text.startswith("# by hand\n")
    assert '"how is asthma treated",  # keep' in text
    edited(
        *(adapters, "medical", "--threshold", "none", "--group", "", "--remove-must", "icd"),
        *("--remove-never", "tax", "--remove-negative", "my computer has a virus"),
    )
    after = on_disk(adapters)
    assert (after.threshold, after.group, after.must, after.never) == (None, "", (), ())
    assert after.negatives == ()


def test_what_changes_nothing_is_not_written(adapters: Path) -> None:
    assert not edited(adapters, "medical", "--add-keyword", "pain")["written"]
    assert (adapters / "medical" / "card.toml").read_text() == TOML


def test_lists_that_are_not_named_stay_as_they_are(adapters: Path) -> None:
    twice = TOML.replace('["pain", "cough"]', '["pain", "pain", "cough"]')
    file = adapters / "medical" / "card.toml"
    file.write_text(twice)
    assert not edited(adapters, "medical")["written"]
    assert file.read_text() == twice
    assert edited(adapters, "medical", "--add-example", "new")["written"]
    assert on_disk(adapters).keywords == ("pain", "pain", "cough")
    edited(adapters, "medical", "--add-keyword", "fever", "--add-keyword", "fever")
    assert on_disk(adapters).keywords == ("pain", "pain", "cough", "fever")


def test_what_others_wrote_while_a_suggestion_was_made_is_kept(
    adapters: Path, tmp_path: Path
) -> None:
    folder = plugin(
        tmp_path,
        "from pathlib import Path\n"
        "@hookimpl\n"
        "def suggest_examples(card):\n"
        f"    file = Path({str(adapters / 'medical' / 'card.toml')!r})\n"
        "    file.write_text(file.read_text() + 'domain = \"medicine\"\\n')\n"
        "    return ['a rash']\n",
    )
    edited(adapters, "medical", "--suggest", 1, "--plugins", folder, "--yes")
    assert on_disk(adapters).domain == "medicine"
    assert on_disk(adapters).examples[-1] == "a rash"


def test_a_card_is_locked_while_it_is_read_and_written(
    adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    refused: list[Path] = []

    def is_locked(path: Path) -> None:
        handle = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            refused.append(path)
        finally:
            os.close(handle)

    def read(folder: Path) -> AdapterEntry:
        is_locked(folder)
        return read_entry(folder)

    def write(entry: AdapterEntry, card: AdapterCard) -> Path:
        is_locked(entry.path)
        return write_card(entry, card)

    monkeypatch.setattr("intrinsic.cli.card.read_entry", read)
    monkeypatch.setattr("intrinsic.cli.card.write_card", write)
    for word in ("first", "second"):
        edited(adapters, "medical", "--add-keyword", word)
    assert refused == [adapters / "medical"] * 4
    assert on_disk(adapters).keywords == ("pain", "cough", "first", "second")


def test_a_card_json_is_said_to_be_read_no_more(adapters: Path) -> None:
    result = card(adapters, "legal", "--add-example", "draft a clause")
    assert "card.json is not read any more" in result.stderr
    assert on_disk(adapters, "legal") == AdapterCard(
        "legal", domain="law", examples=("draft a clause",)
    )


def plugin(tmp_path: Path, body: str) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "writer.py").write_text(f"from intrinsic import hookimpl\n{body}")
    return folder


def test_a_plugin_suggests_and_only_yes_writes(adapters: Path, tmp_path: Path) -> None:
    folder = plugin(
        tmp_path,
        "@hookimpl\n"
        "async def suggest_examples(card, count):\n"
        "    return ['1. Why do I cough', '', *(f'- {card.name} {n}' for n in 'abcdef')]\n",
    )
    arguments = ("medical", "--suggest", 3, "--plugins", folder)
    shown = edited(adapters, *arguments)
    assert shown["suggested"] == ["medical a", "medical b", "medical c"]
    assert (adapters / "medical" / "card.toml").read_text() == TOML
    assert "add --yes to write them" in card(adapters, *arguments).stderr
    assert edited(adapters, *arguments, "--yes")["written"]
    assert on_disk(adapters).examples[1:] == (
        "why do I cough",
        "medical a",
        "medical b",
        "medical c",
    )


BACKEND = """
from intrinsic.backends import FunctionBackend
ASKED = []
async def answer(prompt):
    ASKED.append(prompt)
    assert 'The assistant: Answers.' in prompt and '- how is asthma treated' in prompt, prompt
    return ('Here are some:\\n- I have a rash\\n* how is ASTHMA treated\\n\\n'
            f'2) what about round {len(ASKED)}?\\n')
@hookimpl
def register_backends():
    return {'told': lambda model: FunctionBackend(answer)}
"""


def test_the_model_suggests_until_there_are_enough(adapters: Path, tmp_path: Path) -> None:
    folder = plugin(tmp_path, BACKEND)
    found = edited(adapters, "medical", "--suggest", 3, "--plugins", folder, "--backend", "told")
    assert found["suggested"] == ["I have a rash", "what about round 1?", "what about round 2?"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    return 'one two'\n", "which is no list of strings"),
        ("    raise RuntimeError('no network')\n", "raised RuntimeError: no network"),
        ("    return None\n", ""),
    ],
)
def test_a_plugin_that_fails_or_passes_leaves_it_to_the_model(
    adapters: Path, tmp_path: Path, body: str, words: str
) -> None:
    folder = plugin(tmp_path, f"@hookimpl\ndef suggest_examples():\n{body}{BACKEND}")
    arguments = ("medical", "--suggest", 1, "--plugins", folder, "--backend", "told")
    result = card(adapters, *arguments)
    assert "suggested\tI have a rash" in result.stdout
    assert words in result.stderr


def test_lines_of_a_model_are_cleaned() -> None:
    lines = ["", "  ", "...", "Sure:", "- a b", "12. A B", '"c d"', "e" * 301, "x\x00y", "• f"]
    assert fresh(lines, ["F"], 9) == ["a b", "c d"]
    assert fresh(["a", "b", "c"], [], 2) == ["a", "b"]
    prompt = prompt_for(AdapterCard("m", examples=tuple(f"q{n}" for n in range(20))), ["new"])
    assert "- q7\n- new\n-" in prompt
    assert "q8" not in prompt


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "unknown adapter 'nobody'"),
        (["medical", "--threshold", "2"], "threshold of adapter 'medical' is 2.0"),
        (["medical", "--threshold", "nan"], "threshold of adapter 'medical' is nan"),
        (["medical", "--threshold", "high"], "it must be a number in [0, 1], or 'none'"),
        (["medical", "--add-example", " "], "cannot be added to examples"),
        (["medical", "--remove-keyword", "pian"], "did you mean 'pain'?"),
        (["medical", "--examples-from", "/nowhere"], "/nowhere cannot be read"),
        (["medical", "--suggest", "0"], "--suggest is 0"),
        (["medical", "--yes"], "--yes is for suggestions"),
        (["medical", "--suggest", "1", "--backend", "magic"], "unknown backend 'magic'"),
        (["medical", "--add-example", "a\udcff"], "examples of adapter 'medical' is"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    adapters: Path,
    arguments: list[str],
    words: str,
) -> None:
    given = ["adapters", "card", *arguments, "--domain", "x", "--adapters-dir", str(adapters)]
    refuses(monkeypatch, capsys, given, words)
    assert (adapters / "medical" / "card.toml").read_text() == TOML


def test_installed_adapters_are_shown_and_not_edited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], adapters: Path
) -> None:
    monkeypatch.setattr(bundled, "_HERE", adapters.parent)
    assert json.loads(CliRunner().invoke(app, ["adapters", "card", "medical", "--json"]).stdout)
    monkeypatch.setattr(sys, "argv", ["intrinsic", "adapters", "card", "medical", "--domain", "x"])
    with pytest.raises(SystemExit):
        main()
    assert "belongs to the installed package and is not changed" in capsys.readouterr().err
    assert (adapters / "medical" / "card.toml").read_text() == TOML
