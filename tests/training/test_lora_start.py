"""A training that starts from an adapter: its weights, its rank, its layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from intrinsic.errors import (
    ConfigError,
    IncompatibleAdapterError,
    IntrinsicError,
    UnsupportedAdapterError,
)
from intrinsic.lora import read_checkpoint
from intrinsic.training.lora.train import trained
from tests.tiny import gpt2, llama, write_adapter
from tests.training.given import PLAN, KillAt, Killed, job_in, write_base, write_rows

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_base(tmp_path / "base")
    write_rows(tmp_path / "rows.jsonl")
    write_adapter(tmp_path / "first", llama(), r=3, alpha=9, targets=["q_proj", "up_proj"])
    return tmp_path


def test_it_goes_on_from_the_weights_that_it_was_given(folder: Path) -> None:
    plan = replace(PLAN, max_steps=1, learning_rate=1e-9, rank=8, targets=("down_proj",))
    made = trained(job_in(folder, start=folder / "first"), plan)
    before, after = read_checkpoint(folder / "first"), read_checkpoint(made.folder)
    assert after.factors.keys() == before.factors.keys()
    for name, factors in before.factors.items():
        assert after.factors[name].scale == 3.0
        torch.testing.assert_close(after.factors[name].A, factors.A, rtol=0, atol=1e-8)
        torch.testing.assert_close(after.factors[name].B, factors.B, rtol=0, atol=1e-8)
    assert made.base.loss != made.adapter.loss
    assert made.provenance.hyperparameters["start"] == before.digest


def test_it_learns_from_there(folder: Path) -> None:
    made = trained(job_in(folder, start=folder / "first"), PLAN)
    before, after = read_checkpoint(folder / "first"), read_checkpoint(made.folder)
    assert made.adapter.loss < made.base.loss
    for name, factors in before.factors.items():
        assert not torch.equal(after.factors[name].A, factors.A)
        assert not torch.equal(after.factors[name].B, factors.B)


def test_a_start_of_gpt2_with_its_transposed_layers(tmp_path: Path) -> None:
    write_base(tmp_path / "base", gpt2())
    write_rows(tmp_path / "rows.jsonl")
    write_adapter(tmp_path / "first", gpt2(), r=3, targets=["c_attn"], fan_in_fan_out=True)
    plan = replace(PLAN, max_steps=1, learning_rate=1e-9)
    made = trained(job_in(tmp_path, start=tmp_path / "first"), plan)
    before, after = read_checkpoint(tmp_path / "first"), read_checkpoint(made.folder)
    for name, factors in before.factors.items():
        torch.testing.assert_close(after.factors[name].B, factors.B, rtol=0, atol=1e-8)


def test_checkpoints_of_another_start_are_refused(folder: Path) -> None:
    with pytest.raises(Killed):
        trained(job_in(folder, start=folder / "first"), PLAN, KillAt(5))
    for start in (None, write_adapter(folder / "second", llama(), r=3, alpha=9, seed=4)):
        with pytest.raises(ConfigError, match=r"belong to other data or settings: .*start"):
            trained(job_in(folder, start=start), PLAN)
    assert trained(job_in(folder, start=folder / "first"), PLAN).resumed_from == 4


@pytest.mark.parametrize(
    ("adapter", "error", "words"),
    [
        ({"ranks": {"q_proj": 2, "v_proj": 4}, "rank_pattern": {"q_proj": 2}},
         UnsupportedAdapterError, "several ranks or scales"),
        ({"model": gpt2, "targets": ["c_attn"]},
         IncompatibleAdapterError, "does not fit the base: it has no transformer.h.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_started_from(
    folder: Path, adapter: dict[str, Any], error: type[IntrinsicError], words: str
) -> None:
    model = adapter.pop("model", llama)()
    write_adapter(folder / "odd", model, **adapter)
    with pytest.raises(error, match=words):
        trained(job_in(folder, start=folder / "odd"), PLAN)
    assert not (folder / "mine").exists()


def test_an_adapter_of_other_widths(folder: Path) -> None:
    model = llama()
    model.model.layers[0].self_attn.q_proj = torch.nn.Linear(32, 16)
    write_adapter(folder / "odd", model, targets=["q_proj"])
    with pytest.raises(IncompatibleAdapterError, match="maps 32 to 32, the adapter maps 32 to 16"):
        trained(job_in(folder, start=folder / "odd"), PLAN)
