"""`intrinsic hypernet`: trained, judged, asked for an adapter, and started from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from intrinsic.hypernet.checkpoint import load
from intrinsic.lora import read_checkpoint
from tests.cli.running import printed, printed_list, refuses, run
from tests.hypernet.taught import TASKS, model
from tests.training.given import write_base, write_rows

MAIN = "from intrinsic.cli import main; main()"
OPTIONS = [
    "--encoder", "hashed-words:64", "--rank", 4, "--alpha", 8, "--steps", 40, "--every", 10,
    "--tasks-per-step", 4, "--rows-per-task", 2, "--held-rows", 1, "--held-out", "say-f",
]  # fmt: skip

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, six tasks, and a hypernetwork that learned some of them."""
    folder = tmp_path_factory.mktemp("given")
    write_base(folder / "base", model())
    (folder / "data").mkdir()
    for task in TASKS:
        rows = [{"prompt": prompt, "response": response} for prompt, response in task.rows]
        write_rows(folder / "data" / f"{task.name}.jsonl", rows)
    index = [
        {"task": task.name, "descriptions": list(task.descriptions), "file": f"{task.name}.jsonl"}
        for task in TASKS
    ]
    write_rows(folder / "data" / "index.jsonl", index)
    result = run(*arguments(folder, folder / "made"))
    assert result.exit_code == 0, result.output
    return folder


def arguments(given: Path, out: Path, *others: object) -> list[str]:
    fixed = ["--base", given / "base", "--data", given / "data", "--out", out]
    return [str(one) for one in ["hypernet", "train", *fixed, *OPTIONS, *others]]


def test_training_says_what_came_of_it(given: Path, tmp_path: Path) -> None:
    result = run(*arguments(given, tmp_path / "made", "--validation", "say-d,say-e"))
    assert result.exit_code == 0, result.output
    rows = dict(line.split("\t") for line in result.stdout.strip().split("\n"))
    assert rows["tasks learned"] == "3"
    assert float(rows["training loss, nats per answer token"]) > 0
    assert rows["the gate refuses, of nonsense"].endswith(" %")
    assert "step 10 of 40: " in result.stderr
    assert f"{tmp_path / 'made'} is written: step " in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made"]
    assert (tmp_path / "made" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_folder_holds_all_that_it_needs_to_be_used(given: Path) -> None:
    saved = load(given / "made")
    assert saved.encoder.name == "hashed-words:64:0"
    assert saved.base.name == str(given / "base")
    assert saved.gate is not None
    assert saved.record["tasks"]["test"] == ["say-f"]
    assert len(saved.record["tasks"]["train"]) == 5 - len(saved.record["tasks"]["validation"])


def test_an_architecture_is_given_its_own_options(given: Path, tmp_path: Path) -> None:
    chosen = ["--option", "hidden_dim=24", "--option", "linear=true", "--steps", 10]
    found = printed(*arguments(given, tmp_path / "made", *chosen))
    assert found["network"]["options"] == {"hidden_dim": 24, "linear": True}
    body: Any = load(tmp_path / "made").network.body
    assert body.cores.in_features == 24
    assert isinstance(body.trunk[2], torch.nn.Identity)


def test_a_gate_that_lets_nonsense_through_is_told_and_may_be_made_stricter(
    given: Path, tmp_path: Path
) -> None:
    found = []
    for share in (0.01, 0.5):
        out = tmp_path / str(share)
        result = run(*arguments(given, out, "--steps", 10, "--refuse-good", share))
        assert result.exit_code == 0, result.output
        gate = load(out).record["gate"]
        told = f"the gate lets {1 - gate['refused_nonsense']:.0%} of nonsense queries through"
        assert (told in result.stderr) is (gate["refused_nonsense"] < 0.95)
        found.append(gate)
    assert found[0]["refused_nonsense"] < 0.95
    assert found[0]["refused_nonsense"] < found[1]["refused_nonsense"]
    assert found[0]["refused_good"] < found[1]["refused_good"] <= 0.5


def test_the_same_command_again_gives_the_same_bytes(given: Path, tmp_path: Path) -> None:
    found: dict[str, Any] = printed(*arguments(given, tmp_path / "made"))
    assert found["path"] == str(tmp_path / "made")
    assert found["network"]["architecture"] == "core"
    weights = [(f / "made" / "model.safetensors").read_bytes() for f in (given, tmp_path)]
    assert weights[0] == weights[1]


def test_tasks_are_judged_on_rows_that_were_not_learned(given: Path) -> None:
    fixed = ["hypernet", "eval", given / "made", "--data", given / "data"]
    found = printed_list(*fixed)
    named = load(given / "made").record["tasks"]
    for one in found:
        part = {"train": "seen", "validation": "validation", "test": "unseen"}
        assert part[next(key for key in named if one["task"] in named[key])] == one["part"]
        assert one["generated"]["rows"] == (1 if one["part"] == "seen" else 4)
    seen = [one for one in found if one["part"] == "seen"]
    assert all(one["generated"]["loss"] < one["bare"]["loss"] for one in seen)
    (only,) = printed_list(*fixed, "--tasks", "say-f", "--rows", 2)
    assert (only["task"], only["bare"]["rows"]) == ("say-f", 2)
    head, *rows = run(*fixed).stdout.strip().split("\n")
    assert head.split("\t")[:3] == ["task", "part", "rows"]
    assert len(rows) == 6


def test_tasks_that_changed_since_the_training_are_told(given: Path, tmp_path: Path) -> None:
    shutil.copytree(given / "data", tmp_path / "data")
    fixed = ["hypernet", "eval", given / "made", "--data", tmp_path / "data", "--rows", 1]
    assert "trained on" not in run(*fixed).stderr
    learned = load(given / "made").record["tasks"]["train"][0]
    (file,) = (tmp_path / "data").rglob(f"*{learned}*")
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines[1:], lines[0]]), "utf-8")
    assert "are not those that made was trained on, or have changed" in run(*fixed).stderr


def test_rows_that_were_all_learned_are_not_called_kept_back(given: Path, tmp_path: Path) -> None:
    result = run(*arguments(given, tmp_path / "made", "--held-rows", 0, "--steps", 10))
    assert result.exit_code == 0, result.output
    found = printed_list("hypernet", "eval", tmp_path / "made", "--data", given / "data")
    assert {one["part"] for one in found} == {"learned", "validation", "unseen"}


def test_a_kept_back_row_that_does_not_fit_is_told_before_anything_is_learned(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(given / "data", tmp_path / "data")
    with (tmp_path / "data" / "say-a.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "5 ?", "response": "a " * 9000}) + "\n")
    fixed = ["--base", given / "base", "--data", tmp_path / "data", "--out", tmp_path / "made"]
    asked = [str(one) for one in ["hypernet", "train", *fixed, *OPTIONS, "--validation", "say-d"]]
    refuses(monkeypatch, capsys, asked, "task 'say-a', row 5: the answer alone has")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize("option", ["--out", "--warm-up-from"])
def test_a_home_of_nobody_is_told(
    option: str, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked = arguments(given, tmp_path / "made", "--warm-up-steps", 5, option, "~nobody-here/x")
    refuses(monkeypatch, capsys, asked, "~nobody-here/x cannot be found")


def test_a_record_of_another_kind_is_refused(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(given / "made", tmp_path / "made")
    config = tmp_path / "made" / "config.json"
    for record in ({"tasks": ["say-a"]}, {"held_rows": "some"}):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"record": record}))
        asked = ["hypernet", "eval", str(tmp_path / "made"), "--data", str(given / "data")]
        refuses(monkeypatch, capsys, asked, "its record does not say what was learned")


def test_a_query_becomes_an_adapter(given: Path, tmp_path: Path) -> None:
    query = TASKS[0].descriptions[0]
    found = printed(
        "hypernet", "generate", given / "made", "--query", query, "--out", tmp_path / "a"
    )
    assert found["gate"]["admitted"] is True
    assert found["relative_norm"] > 0
    checkpoint = read_checkpoint(tmp_path / "a")
    assert len(checkpoint.factors) == found["layers"] == 14
    assert {one.scale for one in checkpoint.factors.values()} == {2.0}
    assert f'description = "{query}"' in (tmp_path / "a" / "card.toml").read_text()


def test_a_refused_query_writes_nothing(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = ["hypernet", "generate", str(given / "made"), "--out", str(tmp_path / "a"), "--query"]
    refuses(monkeypatch, capsys, [*fixed, "zzz qqq"], "does not answer 'zzz qqq': its ")
    assert list(tmp_path.iterdir()) == []
    found = printed(*fixed, "zzz qqq", "--no-gate")
    assert found["gate"]["admitted"] is False
    assert read_checkpoint(tmp_path / "a").factors
    refuses(monkeypatch, capsys, [*fixed, "say a"], "exists")
    refuses(monkeypatch, capsys, [*fixed, " ", "--force"], "the query is empty")


def test_one_example_says_whether_the_weights_help(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    query = TASKS[0].descriptions[0]
    fixed = ["hypernet", "generate", str(given / "made"), "--query", query, "--out"]
    wrong = [*fixed, str(tmp_path / "a"), "--example", "1 ?", "}~}~"]
    refuses(monkeypatch, capsys, wrong, "do not help: on the example the loss is")
    empty = [*fixed, str(tmp_path / "a"), "--example", "1 ?", " "]
    refuses(monkeypatch, capsys, empty, "the example needs a prompt and an answer")
    assert list(tmp_path.iterdir()) == []
    found = printed(*fixed, tmp_path / "b", "--example", "1 ?", "a")
    assert found["example"]["loss"] < found["example"]["base_loss"] - 0.05


def test_a_training_starts_from_generated_weights(given: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} ?", "response": "a"} for n in range(8)]
    write_rows(tmp_path / "rows.jsonl", rows)
    fixed = [
        "train", "--base", given / "base", "--data", tmp_path / "rows.jsonl", "--name", "mine",
        "--no-register", "--max-steps", 2, "--epochs", 2, "--lr", "1e-9",
    ]  # fmt: skip
    query = TASKS[0].descriptions[0]
    started = ["--from-hypernet", given / "made", "--query", query]
    found = printed(*fixed, "--adapters-dir", tmp_path / "one", *started)
    scratch = printed(*fixed, "--adapters-dir", tmp_path / "two")
    assert found["adapter"]["loss"] < scratch["adapter"]["loss"] - 0.5
    printed("hypernet", "generate", given / "made", "--query", query, "--out", tmp_path / "a")
    generated = read_checkpoint(tmp_path / "a")
    assert found["provenance"]["hyperparameters"]["rank"] == 4
    for name, factors in read_checkpoint(tmp_path / "one" / "mine-1.0.0").factors.items():
        torch.testing.assert_close(factors.B, generated.factors[name].B, rtol=0, atol=1e-7)


def test_stored_adapters_are_reproduced_first(given: Path, tmp_path: Path) -> None:
    adapter = ["hypernet", "generate", given / "made", "--no-gate", "--query"]
    for task in TASKS[:2]:
        printed(*adapter, task.descriptions[0], "--out", tmp_path / "stored" / task.name)
    others = ["--warm-up-from", tmp_path / "stored", "--warm-up-steps", 6, "--steps", 2]
    found = printed(*arguments(given, tmp_path / "made", *others, "--validation", "say-e"))
    assert found["steps"] == 8


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (["--warm-up-from", "/nowhere"], "/nowhere has no adapter of a task that is learned"),
        (["--steps", "0"], "--steps is 0"),
        (["--rank", "0"], "rank is 0"),
        (["--architecture", "cores"], "architecture is 'cores' (did you mean"),
        (["--encoder", "hashed-words:x"], "unknown encoder"),
        (["--held-out", "nothing"], "unknown task 'nothing'; known: say-a"),
        (["--validation", "say-f"], "'say-f' is both held out and for validation"),
        (["--validation", "say-a,say-b,say-c,say-d"], "1 left to learn"),
        (["--validation-share", "1"], "--validation-share is 1.0"),
        (["--refuse-good", "1"], "--refuse-good is 1.0"),
        (["--targets", "q_prok"], "did you mean 'q_proj'?"),
        (["--option", "linear"], "--option is 'linear'; write NAME=VALUE"),
        (["--option", "linear=False"], "--option is 'linear=False'; write NAME=VALUE"),
        (["--option", "depth=2"], "'core' has no option 'depth'; it has hidden_dim"),
        (["--option", "rank=2"], "--option: 'rank' is no option of an architecture"),
        (["--base", "/nowhere"], "'/nowhere' is no folder here"),
        (["--data", "/nowhere"], "/nowhere/index.jsonl cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    others: list[str],
    words: str,
) -> None:
    refuses(monkeypatch, capsys, arguments(given, tmp_path / "made", *others), words)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_is_told_before_the_training(
    given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuses(monkeypatch, capsys, arguments(given, given / "made"), "exists already")


def test_another_base_is_refused(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_base(tmp_path / "base")
    others = ["--query", "say a", "--out", str(tmp_path / "a"), "--base", str(tmp_path / "base")]
    made = str(given / "made")
    refuses(monkeypatch, capsys, ["hypernet", "generate", made, *others], "other weights")
    assert not (tmp_path / "a").exists()


def small_training(given: Path, folder: Path) -> list[str]:
    write_rows(folder / "rows.jsonl")
    data = str(folder / "rows.jsonl")
    return ["train", "--base", str(given / "base"), "--data", data, "--name", "x"]


def test_one_option_without_the_other(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = small_training(given, tmp_path)
    words = "--from-hypernet and --query belong together"
    refuses(monkeypatch, capsys, [*fixed, "--query", "say a"], words)
    refuses(monkeypatch, capsys, [*fixed, "--from-hypernet", str(given)], words)


def test_what_the_generated_adapter_decides_is_not_given_twice(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = small_training(given, tmp_path)
    fixed += ["--from-hypernet", str(given / "made"), "--query", "say a"]
    for option, value in (("--rank", "16"), ("--alpha", "2"), ("--targets", "q_proj")):
        words = f"{option} is the generated adapter's where --from-hypernet is given"
        refuses(monkeypatch, capsys, [*fixed, option, value], words)


def test_without_peft_it_says_what_to_install(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = small_training(given, tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    fixed += ["--from-hypernet", str(given / "made"), "--query", "say a"]
    refuses(monkeypatch, capsys, fixed, "pip install 'intrinsic-lora[train]'")


def test_a_signal_keeps_the_step_and_the_same_command_goes_on(given: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAIN, *arguments(given, tmp_path / "made", "--every", "2")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as going:
        assert going.stderr is not None
        for line in going.stderr:
            if line.startswith("step 2 of "):
                going.send_signal(signal.SIGINT)
                break
        rest = going.stderr.read()
    assert going.returncode == 128 + signal.SIGINT
    assert "the same command goes on there" in rest.splitlines()[-1]
    assert not (tmp_path / "made").exists()
    found = printed(*arguments(given, tmp_path / "made", "--every", "2"))
    assert 2 <= found["resumed_from"] < found["steps"] == 40
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made"]
    assert json.loads((tmp_path / "made" / "config.json").read_text())["record"]["steps"] == 40
