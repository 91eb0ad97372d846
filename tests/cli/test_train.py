"""`intrinsic train`: a table of what was gained, one sentence for what went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from intrinsic.cli.output import OurConsole
from intrinsic.cli.train_progress import Lines, shown
from intrinsic.training.lora import running
from tests.cli.running import printed, refuses, run
from tests.training.given import ROWS, write_base, write_rows

MAIN = "from intrinsic.cli import main; main()"
OPTIONS = ["--lr", "0.01", "--batch-tokens", 160, "--epochs", 1, "--every", 4, "--rank", 4]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_base(folder / "base")
    write_rows(folder / "rows.jsonl")
    return folder


def arguments(given: Path, out: Path, *others: object) -> list[str]:
    fixed = ["--base", given / "base", "--data", given / "rows.jsonl", "--name", "mine"]
    return [str(one) for one in ["train", *fixed, *OPTIONS, "--adapters-dir", out, *others]]


def train(given: Path, out: Path, *others: object) -> Result:
    return run(*arguments(given, out, *others))


def test_base_and_adapter_stand_side_by_side(given: Path, tmp_path: Path) -> None:
    result = train(given, tmp_path, "--domain", "numbers", "--keyword", "a", "--keyword", "b")
    assert result.exit_code == 0, result.output
    head, *rows = [line.split("\t") for line in result.stdout.strip().split("\n")]
    assert head == ["figure", "base", "adapter"]
    assert [row[0] for row in rows] == [
        "loss, nats per answer token", "perplexity", "token accuracy",
    ]  # fmt: skip
    assert float(rows[0][2]) < float(rows[0][1])
    assert "step 4 of 8: loss " in result.stderr
    assert f"{tmp_path / 'mine-1.0.0'} is written: step 8 of 8, " in result.stderr
    card = (tmp_path / "mine-1.0.0" / "card.toml").read_text()
    assert 'domain = "numbers"' in card
    assert 'keywords = [\n    "a",\n    "b",\n]' in card


def test_json_is_the_result_and_nothing_else(given: Path, tmp_path: Path) -> None:
    result = train(given, tmp_path, "--json")
    assert result.stderr == ""
    found: dict[str, Any] = printed(*arguments(given, tmp_path, "--version", "2"))
    assert found["path"] == str(tmp_path / "mine-2")
    assert found["gain"] == found["base"]["loss"] - found["adapter"]["loss"] > 0
    assert set(found["adapter"]) == {"loss", "perplexity", "token_accuracy", "tokens", "rows"}
    rows = found["rows"]
    assert rows == {"train": 22, "validation": 2, "shortened": 0}
    assert found["provenance"]["trainer"] == "intrinsic train"


def test_layers_are_named_with_commas_or_one_by_one(given: Path, tmp_path: Path) -> None:
    found = printed(
        *arguments(given, tmp_path, "--targets", "q_proj, v_proj", "--targets", "up_proj")
    )
    assert found["provenance"]["hyperparameters"]["targets"] == ["q_proj", "up_proj", "v_proj"]


def test_an_adapter_that_gained_nothing_says_so(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = running._scores
    monkeypatch.setattr(running, "_scores", lambda course: scores(course)[::-1])
    result = train(given, tmp_path)
    assert result.exit_code == 0, result.output
    assert "the adapter is no better than its base on the held-out rows" in result.stderr
    monkeypatch.undo()
    assert "no better" not in train(given, tmp_path, "--force").stderr


@pytest.mark.parametrize(
    ("given_too", "words"),
    [
        (["--rank", "0"], "--rank is 0; it must be a whole number of at least 1"),
        (["--lr", "-1"], "--lr is -1.0"),
        (["--dtype", "int4"], "--dtype is 'int4'; it must be one of auto, fp32, bf16"),
        (["--targets", "q_prj"], "did you mean 'q_proj'?"),
        (["--base", "some/where"], "not in the hub's cache, and nothing is downloaded"),
        (["--data", "none.jsonl"], "none.jsonl cannot be read: No such file"),
        (["--name", "a@b"], "adapter name 'a@b' is not valid"),
        (["--name", "../x"], "choose another --name"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: Path,
    tmp_path: Path,
    given_too: list[str],
    words: str,
) -> None:
    refuses(monkeypatch, capsys, arguments(given, tmp_path, *given_too), words)
    assert list(tmp_path.iterdir()) == []


def test_broken_rows_are_listed(given: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [*ROWS, "nope", "{}"])
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments(given, tmp_path, "--data", data)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    head, *lines = done.stderr.strip().split("\n")
    assert head == f"intrinsic: {data} has 2 broken rows, nothing was trained or written:"
    assert [line.split(":")[0] for line in lines] == ["  line 25", "  line 26"]
    assert list(tmp_path.iterdir()) == [data]


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped = Lines.stepped

    def press(told: Lines, step: int, steps: int) -> None:
        stepped(told, step, steps)
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Lines, "stepped", press)
    result = train(given, tmp_path)
    assert result.exit_code == 130
    assert "intrinsic: stopped at step " in result.stderr
    assert "the same command goes on there" in result.stderr
    assert not (tmp_path / "mine-1.0.0").exists()
    monkeypatch.undo()
    again = train(given, tmp_path)
    assert again.exit_code == 0, again.output
    assert "intrinsic: going on from step " in again.stderr


def test_on_a_terminal_there_is_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(OurConsole, "is_terminal", True)
    with shown(quiet=False) as progress:
        progress.note("[b]a note[/b]")
        progress.stepped(1, 3)
        progress.learned(1, 2.5)
        progress.validated(1, 2.25, best=True)
        progress.kept(1, tmp_path)
    told = capsys.readouterr().err
    assert "intrinsic: [b]a note[/b]" in told
    assert "step 1: held out 2.2500, the lowest so far" in told
    assert "1/3" in told
    with shown(quiet=True) as progress:
        progress.validated(1, 2.0, best=True)
    assert capsys.readouterr() == ("", "")
