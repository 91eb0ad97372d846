"""Tasks to a folder: what is learned, what is kept back, and what the gate makes of queries."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from intrinsic.errors import (
    AdapterError,
    AdapterExistsError,
    CapacityError,
    ConfigError,
    HypernetError,
    IntrinsicError,
)
from intrinsic.hypernet import making
from intrinsic.hypernet.encoded import TaskEncoder
from intrinsic.hypernet.job import HypernetJob, kept_back, parted
from intrinsic.hypernet.loop import train
from intrinsic.hypernet.making import gate_for, make_hypernet
from intrinsic.hypernet.scores import generated_for, score_tasks
from intrinsic.hypernet.tasks import Task
from tests.hypernet.taught import PLAN, TASKS, course, task
from tests.training.given import write_base, write_rows

ROWS = tuple((str(n), "r") for n in range(10))
MANY = tuple(Task(name, (f"d {name}",), ROWS) for name in "abcdefghij")


def job(**changed: Any) -> HypernetJob:
    return HypernetJob("base", Path("data"), Path("out"), **changed)


def test_tasks_are_parted_by_the_job_and_the_index() -> None:
    tasks = [
        replace(one, split=split)
        for one, split in zip(MANY, ["test", "validation"] * 2 + [""] * 6, strict=True)
    ]
    parts = parted(tasks, job(held_out=("e",), validation=("f",), held_rows=3), 0)
    assert parts.names() == {
        "train": ["g", "h", "i", "j"], "validation": ["b", "d", "f"], "test": ["a", "c", "e"],
    }  # fmt: skip
    assert [one.rows for one in parts.learned] == [ROWS[:7]] * 4
    assert [one.rows for one in parts.unseen_rows] == [ROWS[7:]] * 4
    assert parts.validation[0].rows == ROWS


def test_validation_tasks_are_drawn_where_none_are_named() -> None:
    one, same, other = (parted(MANY, job(validation_share=0.25), seed) for seed in (3, 3, 4))
    assert len(one.validation) == 3
    assert one == same != other
    assert not set(one.names()["validation"]) & set(one.names()["train"])
    assert parted(MANY, job(validation_share=0.0), 3).validation == ()


def test_never_more_than_half_of_the_rows_are_kept_back() -> None:
    assert [len(one.rows) for one in kept_back(MANY[0], 32) if one] == [5, 5]
    assert kept_back(MANY[0], 0) == (MANY[0], None)
    single = MANY[0].part(ROWS[:1])
    assert kept_back(single, 3) == (single, None)


@pytest.mark.parametrize(
    ("tasks", "changed", "words"),
    [
        (MANY, {"held_out": ("z",)}, "unknown task 'z'"),
        ((replace(MANY[0], split="dev"), *MANY[1:]), {}, "'a' has the split 'dev'; known: train"),
        (
            MANY,
            {"held_out": tuple("abcdefgh")},
            "8 are held out, 1 are for validation and 1 left to learn",
        ),
    ],
)
def test_what_cannot_be_parted(tasks: Any, changed: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parted(tasks, job(**changed), 0)


def test_settings_of_a_job_are_checked() -> None:
    for name, value in (("validation_share", -0.1), ("held_rows", -1), ("refuse_good", 1.0)):
        with pytest.raises(ConfigError, match=name.replace("_", "-")):
            job(**{name: value})


def test_a_row_is_right_where_greedy_decoding_gives_its_answer() -> None:
    given = course(tasks=TASKS[:3], validation=())
    train(given, replace(PLAN, steps=45))
    encoder = TaskEncoder(given.model, given.tokenizer, given.encoder)
    encoded = encoder.tasks([task(letter) for letter in "abcdef"])
    found = score_tasks(given.model, given.network, encoded)
    right = []
    for one in encoded:
        hits = 0
        for row in one.rows:
            prompt = [i for i, label in zip(row.ids, row.labels, strict=True) if label < 0]
            with generated_for(given.model, given.network, one.embeddings[:1]):
                answer = given.model.generate(
                    torch.tensor([prompt]),
                    attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                    do_sample=False,
                    max_new_tokens=len(row.ids) - len(prompt),
                    pad_token_id=0,
                )
            hits += answer[0].tolist() == row.ids
        right.append(hits / len(one.rows))
    assert [one.row_accuracy for one in found] == right
    assert 0 < sum(right) < 6  # so that both kinds are there


def test_the_gate_admits_descriptions_and_bounds_what_is_generated() -> None:
    given = course(validation=())
    train(given, PLAN)
    gate, calibration = gate_for(given.model, given.network, given.encoder, TASKS)
    for one in TASKS:
        for embedding in torch.from_numpy(given.encoder.encode(one.descriptions)):
            assert gate.admits(embedding).admitted
    assert calibration.good == 12
    assert gate.max_relative_norm is not None
    assert not gate.admits(embedding, gate.max_relative_norm * 1.01).admitted
    nonsense = torch.from_numpy(given.encoder.encode(["quux frobnicate the mol"]))[0]
    assert not gate.admits(nonsense).admitted


def test_a_network_that_learned_nothing_gets_no_gate() -> None:
    given = course()
    with pytest.raises(HypernetError, match="learned nothing, its weights are 0"):
        gate_for(given.model, given.network, given.encoder, TASKS)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (MemoryError(), CapacityError, r"lower --tasks-per-step \(now 4\), --rows-per-task"),
        (OSError(errno.ENOSPC, "No space left on device"), AdapterError, "its disk is full"),
    ],
)
def test_full_memory_and_full_disk_are_told_in_words(
    fault: Exception,
    error: type[IntrinsicError],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    write_rows(tmp_path / "a.jsonl", [{"prompt": "p", "response": "r"}] * 4)
    index = [{"task": n, "instruction": n, "file": "a.jsonl"} for n in "ab"]
    write_rows(tmp_path / "index.jsonl", index)
    write_base(tmp_path / "base")
    monkeypatch.setattr(making, "train", fail)
    with pytest.raises(error, match=words):
        make_hypernet(
            HypernetJob(str(tmp_path / "base"), tmp_path, tmp_path / "out", validation_share=0.0),
            PLAN,
        )
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_taken_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(AdapterExistsError, match="exists already"):
        make_hypernet(HypernetJob("/nowhere", Path("/nowhere"), tmp_path))
