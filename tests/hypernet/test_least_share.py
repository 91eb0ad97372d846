"""What an example must lose is found between right weights and those of other tasks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from intrinsic.errors import ConfigError
from intrinsic.hypernet.check import SHARE
from intrinsic.hypernet.encoded import TaskEncoder
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.least_share import MOST, least_share, share_of
from intrinsic.hypernet.loop import train
from intrinsic.hypernet.scores import generated_for, row_losses, score_tasks
from tests.hypernet.taught import PLAN, TASKS, course

GATE = torch.eye(3)


def test_it_lies_between_the_right_weights_and_those_of_other_tasks() -> None:
    given = course(validation=())
    train(given, replace(PLAN, steps=60))
    tasks = TaskEncoder(given.model, given.tokenizer, given.encoder).tasks(TASKS[:3])
    share = least_share(given.model, given.network, tasks)
    assert share is not None
    assert SHARE <= share < MOST
    for asked in tasks:
        bare = row_losses(given.model, asked.rows)
        for described in tasks:
            with generated_for(given.model, given.network, described.embeddings[:1]):
                lost = 1 - row_losses(given.model, asked.rows) / bare
            assert bool((lost > share).all()) is (asked is described)


def test_it_is_never_below_what_is_asked_for_without_it() -> None:
    given = course(validation=())  # nothing learned: right and wrong weights do nothing
    tasks = TaskEncoder(given.model, given.tokenizer, given.encoder).tasks(TASKS)
    assert least_share(given.model, given.network, tasks) == SHARE


def test_one_task_alone_says_nothing() -> None:
    given = course(validation=())
    tasks = TaskEncoder(given.model, given.tokenizer, given.encoder).tasks(TASKS[:1])
    assert least_share(given.model, given.network, tasks) is None
    assert least_share(given.model, given.network, []) is None


def test_losses_of_rows_are_those_of_their_task() -> None:
    given = course(validation=())
    (task,) = TaskEncoder(given.model, given.tokenizer, given.encoder).tasks(TASKS[:1])
    (score,) = score_tasks(given.model, None, [task])
    assert float(row_losses(given.model, task.rows).mean()) == pytest.approx(score.loss)


def test_a_gate_carries_it() -> None:
    assert share_of(None) == share_of(Gate(GATE, 0.1)) == SHARE
    assert share_of(Gate(GATE, 0.1, example_share=0.6)) == 0.6
    with pytest.raises(ConfigError, match="example_share is 1"):
        Gate(GATE, 0.1, example_share=1.0)
