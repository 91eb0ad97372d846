"""A killed training of a hypernetwork goes on, and ends with the bytes of an unbroken one."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.course import Course, Trained
from intrinsic.hypernet.loop import train
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.targets import targets_of
from intrinsic.training.lora.checkpoints import Checkpoints, declare_whole
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.stopping import TrainingInterrupted
from tests.hypernet.taught import DIMENSION, PLAN, TASKS, course, network
from tests.tiny import llama, write_adapter
from tests.training.given import KillAt, Killed, Told

LONG = replace(PLAN, steps=20, nonsense_share=0.3, warm_up_steps=0)


def weights(course: Course) -> bytes:
    return b"".join(t.numpy().tobytes() for t in course.network.state_dict().values())


@pytest.fixture(scope="module")
def unbroken() -> tuple[bytes, Trained]:
    given = course()
    made = train(given, LONG)
    return weights(given), made


@pytest.mark.parametrize("step", [3, 4, 11, 20])
def test_a_killed_training_ends_with_the_same_bytes(
    step: int, unbroken: tuple[bytes, Trained], tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path / "mine")
    with pytest.raises(Killed):
        train(course(), LONG, KillAt(step), checkpoints)
    torch.manual_seed(99)
    given = course(network=network(seed=8))  # what it begins with no longer matters
    if step < 4:  # nothing was kept, so it does
        given = course()
    told = Told()
    made = train(given, LONG, told, checkpoints)
    kept = (step - 1) // 4 * 4
    assert made.resumed_from == kept
    assert told.steps[0] == kept + 1
    assert weights(given) == unbroken[0]
    assert made.history == unbroken[1].history
    assert (made.best_step, made.steps) == (unbroken[1].best_step, 20)


def test_what_is_over_is_only_read_again(unbroken: tuple[bytes, Trained], tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "mine")
    train(course(), LONG, None, checkpoints)
    given, told = course(network=network(seed=8)), Told()
    train(given, LONG, told, checkpoints)
    assert told.steps == []
    assert weights(given) == unbroken[0]
    assert len(checkpoints.whole()) == 2
    checkpoints.remove()
    assert list(tmp_path.iterdir()) == []


class SignalAt(Progress):
    """Sends this process a signal after a step, as a user's Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self._step = step

    def stepped(self, step: int, steps: int) -> None:
        if step == self._step:
            signal.raise_signal(signal.SIGINT)


def test_a_signal_keeps_the_step(unbroken: tuple[bytes, Trained], tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "mine")
    with pytest.raises(TrainingInterrupted, match="stopped at step 6, which is kept in"):
        train(course(), LONG, SignalAt(6), checkpoints)
    given = course()
    made = train(given, LONG, None, checkpoints)
    assert made.resumed_from == 6
    assert weights(given) == unbroken[0]


@pytest.mark.parametrize(
    ("plan", "changed", "words"),
    [
        (replace(LONG, learning_rate=0.5), {}, r"learning_rate \(was 0.003\)"),
        (LONG, {"tasks": TASKS[1:]}, "tasks "),
        (LONG, {"network": network(architecture="core_diagonal")}, "network "),
    ],
)
def test_checkpoints_of_another_training_are_refused(
    plan: HypernetPlan, changed: dict[str, object], words: str, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path / "mine")
    with pytest.raises(Killed):
        train(course(), LONG, KillAt(9), checkpoints)
    with pytest.raises(ConfigError, match=words):
        train(course(**changed), plan, None, checkpoints)
    assert [step for step, _ in checkpoints.whole()] == [4, 8]
    made = train(course(**changed), plan, None, checkpoints, resume=False)
    assert made.resumed_from == 0


def test_other_adapters_under_the_same_paths_are_another_training(tmp_path: Path) -> None:
    name = TASKS[0].name
    targets = targets_of(llama(), ["q_proj", "v_proj"])
    plan = replace(LONG, warm_up_steps=6)

    def given() -> Course:
        torch.manual_seed(0)
        shape = HyperNetwork(targets, DIMENSION, 4, 8.0)
        return course(network=shape, adapters={name: tmp_path / name})

    checkpoints = Checkpoints(tmp_path / "mine")
    write_adapter(tmp_path / name, llama(), r=2)
    with pytest.raises(Killed):
        train(given(), plan, KillAt(9), checkpoints)
    write_adapter(tmp_path / name, llama(), r=2, seed=1)
    with pytest.raises(ConfigError, match="other data or settings: adapters"):
        train(given(), plan, None, checkpoints)


def test_a_folder_that_another_training_holds_by_now_stays(tmp_path: Path) -> None:
    mine, other = (Checkpoints(tmp_path / "mine") for _ in range(2))
    with other.open({"of": "another"}, resume=False):
        mine.remove()
        assert other.folder.is_dir()
        kept = other.at(1)
        kept.mkdir()
        (kept / "trainer_state.json").write_text("{}")
        declare_whole(kept)
    mine.remove()
    assert not mine.folder.exists()
    mine.remove()
    with mine.open({}, resume=False):
        mine.remove()
        assert not mine.folder.exists()


def test_a_checkpoint_that_is_not_whole_is_passed_over(
    unbroken: tuple[bytes, Trained], tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path / "mine")
    with pytest.raises(Killed):
        train(course(), LONG, KillAt(9), checkpoints)
    with (checkpoints.at(8) / "state.pt").open("ab") as file:
        file.truncate(100)
    given = course()
    assert train(given, LONG, None, checkpoints).resumed_from == 4
    assert weights(given) == unbroken[0]
    assert json.loads((checkpoints.folder / "plan.json").read_text())["steps"] == 20


@pytest.mark.parametrize("file", ["state.pt", "trainer_state.json"])
def test_a_checkpoint_of_damaged_bytes_is_told_in_words(file: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "mine")
    with pytest.raises(Killed):
        train(course(), LONG, KillAt(9), checkpoints)
    path = checkpoints.at(8) / file
    path.write_bytes(b"\0" * path.stat().st_size)
    given = course()
    before = weights(given)
    with pytest.raises(HypernetError, match=r"checkpoint-8 is damaged .*; remove it to go on"):
        train(given, LONG, None, checkpoints)
    assert weights(given) == before
    shutil.rmtree(checkpoints.at(8))
    assert train(given, LONG, None, checkpoints).resumed_from == 4
