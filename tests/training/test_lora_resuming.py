"""A training that was killed or stopped goes on, and ends with the bytes of an unbroken one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from intrinsic.errors import AdapterInUseError, ConfigError
from intrinsic.training.lora.checkpoints import Checkpoints, declare_whole
from intrinsic.training.lora.plan import LoraPlan
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.stopping import TrainingInterrupted, on_signals
from intrinsic.training.lora.train import trained
from tests.training.given import PLAN, KillAt, Killed, Told, job_in, write_base, write_rows

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

FILES = ("adapter_config.json", "adapter_model.safetensors", "card.toml")
WORK = ".mine.training"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_base(folder / "base")
    write_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture(scope="module")
def unbroken(given: Path) -> list[bytes]:
    """The files of a training that nobody disturbed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return bytes_in(trained(job_in(given, out=given / "unbroken"), PLAN).folder)


@pytest.fixture
def folder(given: Path, tmp_path: Path) -> Path:
    (tmp_path / "base").symlink_to(given / "base")
    (tmp_path / "rows.jsonl").symlink_to(given / "rows.jsonl")
    return tmp_path


def bytes_in(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("steps", [(5,), (6, 9), (11,)], ids=str)
def test_a_broken_training_ends_with_the_same_bytes(
    folder: Path, unbroken: list[bytes], steps: tuple[int, ...]
) -> None:
    for step in steps:
        with pytest.raises(Killed):
            trained(job_in(folder), PLAN, KillAt(step))
        assert WORK in left_in(folder)
        assert "mine" not in left_in(folder)
    told = Told()
    made = trained(job_in(folder), PLAN, told)
    assert made.resumed_from == 4 * (steps[-1] // 4) > 0
    assert told.steps[0] == made.resumed_from + 1
    assert told.notes[0].startswith(f"going on from step {made.resumed_from}")
    assert bytes_in(made.folder) == unbroken
    assert left_in(folder) == ["base", "mine", "rows.jsonl"]


CHILD = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch
from intrinsic.training.lora.train import trained
from tests.training.given import PLAN, Told, job_in

folder, where = Path(sys.argv[1]), sys.argv[2]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Dying(Told):
    def stepped(self, step, steps):
        super().stepped(step, steps)
        if step == 7 and where == "between checkpoints":
            die()

save = torch.save
def half(value, path, *others, **more):
    save(value, path, *others, **more)
    if where == "inside a checkpoint" and "checkpoint-8" in str(path):
        os.truncate(path, os.path.getsize(path) // 2)
        die()
torch.save = half

trained(job_in(folder), PLAN, Dying())
"""


@pytest.mark.parametrize("where", ["between checkpoints", "inside a checkpoint"])
def test_a_process_killed_with_minus_9_is_gone_on_from(
    folder: Path, unbroken: list[bytes], where: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), where],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "mine" not in left_in(folder)
    begun = left_in(folder / WORK)
    assert begun == ["checkpoint-4", *(["checkpoint-8"] if "inside" in where else []), "plan.json"]
    made = trained(job_in(folder), PLAN)
    assert made.resumed_from == 4
    assert bytes_in(made.folder) == unbroken


def test_a_kill_after_the_last_checkpoint_costs_no_step(
    folder: Path, unbroken: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("intrinsic.training.lora.running.write_adapter", die)
    with pytest.raises(Killed):
        trained(job_in(folder), PLAN)
    monkeypatch.undo()
    told = Told()
    assert bytes_in(trained(job_in(folder), PLAN, told).folder) == unbroken
    assert told.steps == []


def test_a_kill_after_an_early_stop_learns_no_further(given: Path, tmp_path: Path) -> None:
    draw = random.Random(1)
    rows = [
        {"prompt": f"p{n}", "response": "".join(draw.choices("abcdefgh", k=12))} for n in range(12)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    plan = replace(PLAN, epochs=300, learning_rate=0.1, patience=2, every=5)
    job = job_in(tmp_path, base=str(given / "base"))
    wanted = trained(replace(job, out=tmp_path / "unbroken"), plan)
    assert wanted.steps < 300

    class DieAtTheEnd(Progress):
        def kept(self, step: int, checkpoint: Path) -> None:
            if step == wanted.steps:
                raise Killed

    with pytest.raises(Killed):
        trained(job, plan, DieAtTheEnd())
    made = trained(job, plan)
    assert (made.steps, made.best_step) == (wanted.steps, wanted.best_step)
    assert bytes_in(made.folder) == bytes_in(wanted.folder)


def test_a_damaged_checkpoint_is_swept_and_the_one_before_gone_on_from(
    folder: Path, unbroken: list[bytes]
) -> None:
    with pytest.raises(Killed):
        trained(job_in(folder), PLAN, KillAt(9))
    os.truncate(folder / WORK / "checkpoint-8" / "optimizer.pt", 100)
    with pytest.raises(Killed):
        trained(job_in(folder), PLAN, KillAt(5))
    assert left_in(folder / WORK) == ["checkpoint-4", "plan.json"]
    made = trained(job_in(folder), PLAN)
    assert made.resumed_from == 4
    assert bytes_in(made.folder) == unbroken


def test_the_folder_may_be_moved_in_between(folder: Path, unbroken: list[bytes]) -> None:
    with pytest.raises(Killed):
        trained(job_in(folder, out=folder / "there" / "mine"), PLAN, KillAt(9))
    (folder / "there").rename(folder / "here")
    made = trained(job_in(folder, out=folder / "here" / "mine"), PLAN)
    assert made.resumed_from == 8
    assert bytes_in(made.folder) == unbroken


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"learning_rate": 2e-2}, "learning_rate (was 0.01)"),
        ({"targets": ("q_proj",)}, 'targets (was ["down_proj"'),
        ({"seed": 3}, "seed (was 17)"),
    ],
)
def test_checkpoints_of_other_settings_are_not_gone_on_from(
    folder: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(Killed):
        trained(job_in(folder), PLAN, KillAt(5))
    with pytest.raises(ConfigError) as refused:
        trained(job_in(folder), replace(PLAN, **changed))
    assert words in str(refused.value)
    assert "begin anew with --no-resume" in str(refused.value)
    assert trained(job_in(folder), PLAN).resumed_from == 4


def test_checkpoints_of_other_data_are_not_gone_on_from(folder: Path) -> None:
    with pytest.raises(Killed):
        trained(job_in(folder), PLAN, KillAt(5))
    text = (folder / "rows.jsonl").read_text()
    (folder / "rows.jsonl").unlink()
    (folder / "rows.jsonl").write_text(text.replace("it is 3", "it is 4"))
    with pytest.raises(ConfigError, match=r"other data or settings: data \(was"):
        trained(job_in(folder), PLAN)


def test_checkpoints_of_another_base_are_not_gone_on_from(folder: Path) -> None:
    with pytest.raises(Killed):
        trained(job_in(folder), PLAN, KillAt(5))
    (folder / "base").unlink()
    write_base(folder / "base", chat=False)
    with pytest.raises(ConfigError, match=r"other data or settings: base \(was"):
        trained(job_in(folder), PLAN)


def test_no_resume_begins_anew(folder: Path, unbroken: list[bytes]) -> None:
    other = replace(PLAN, learning_rate=2e-2)
    with pytest.raises(Killed):
        trained(job_in(folder), other, KillAt(5))
    made = trained(job_in(folder, resume=False), PLAN)
    assert made.resumed_from == 0
    assert bytes_in(made.folder) == unbroken


def test_two_trainings_never_write_into_one_folder(folder: Path) -> None:
    class Meanwhile(Progress):
        refused = ""

        def stepped(self, step: int, steps: int) -> None:
            if step == 5:
                with pytest.raises(AdapterInUseError) as error:
                    trained(job_in(folder, resume=False), PLAN)
                self.refused = str(error.value)

    told = Meanwhile()
    made = trained(job_in(folder), PLAN, told)
    assert "another training writes into" in told.refused
    assert (made.steps, made.resumed_from) == (24, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_step_and_says_how_to_go_on(
    folder: Path, unbroken: list[bytes], number: signal.Signals
) -> None:
    class Pressing(Progress):
        def stepped(self, step: int, steps: int) -> None:
            if step == 6:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted, match="the same command goes on there") as stopped:
        trained(job_in(folder), PLAN, Pressing())
    assert signal.getsignal(number) is before
    assert stopped.value.signal_number == number
    assert stopped.value.checkpoint == folder / WORK / f"checkpoint-{stopped.value.step}"
    assert stopped.value.step in (6, 7)
    made = trained(job_in(folder), PLAN)
    assert made.resumed_from == stopped.value.step
    assert bytes_in(made.folder) == unbroken


def test_a_second_signal_ends_at_once(folder: Path) -> None:
    class Pressing(Progress):
        def stepped(self, step: int, steps: int) -> None:
            if step == 6:
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stopped:
        trained(job_in(folder), PLAN, Pressing())
    assert not isinstance(stopped.value, TrainingInterrupted)
    assert "checkpoint-6" not in left_in(folder / WORK)


def test_in_another_thread_signals_are_left_alone() -> None:
    found = []

    def look() -> None:
        with on_signals():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_a_checkpoint_is_whole_only_with_all_its_files(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "mine")
    made = checkpoints.at(3)
    made.mkdir(parents=True)
    (made / "weights").write_bytes(b"123")
    (made / "trainer_state.json").write_text("{}")
    assert checkpoints.whole() == []
    declare_whole(made)
    assert checkpoints.whole() == [(3, made)]
    (made / "weights").write_bytes(b"12")
    assert checkpoints.whole() == []
    (made / "weights").unlink()
    assert checkpoints.whole() == []


def test_a_folder_whose_plan_is_broken_is_not_gone_on_from(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "mine")
    made = checkpoints.at(3)
    made.mkdir(parents=True)
    (made / "trainer_state.json").write_text("{}")
    declare_whole(made)
    plan = json.loads(json.dumps(LoraPlan().as_json()))
    (checkpoints.folder / "plan.json").write_text("{")
    with (
        pytest.raises(ConfigError, match="belong to other data or settings"),
        checkpoints.open(plan, resume=True),
    ):
        pass
    assert checkpoints.whole() == [(3, made)]
