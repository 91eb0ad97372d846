"""What is trained is what is written, and what it gained is measured on rows that it never saw."""

from __future__ import annotations

import json
import random
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from intrinsic.errors import (
    AdapterError,
    AdapterExistsError,
    BackendError,
    CapacityError,
    ConfigError,
)
from intrinsic.lora import read_checkpoint
from intrinsic.registry import AdapterRegistry
from intrinsic.registry.provenance import Provenance
from intrinsic.training.lora import running, writing
from intrinsic.training.lora.base import find_base
from intrinsic.training.lora.plan import Dtype, FileDtype, LoraPlan
from intrinsic.training.lora.result import TrainedAdapter
from intrinsic.training.lora.rows import TrainingRow, read_rows, some_unasked
from intrinsic.training.lora.scores import Scores
from intrinsic.training.lora.split import split
from intrinsic.training.lora.train import trained
from tests.tiny import gpt2, tokens
from tests.training.given import PLAN, ROWS, Told, job_in, write_base, write_rows

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

SHORT = replace(PLAN, epochs=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_base(tmp_path / "base")
    write_rows(tmp_path / "rows.jsonl")
    return tmp_path


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models as they are when they are written."""
    models: list[Any] = []
    write = writing.write_adapter

    def keep(model: Any, *others: Any) -> None:
        models.append(model)
        write(model, *others)

    monkeypatch.setattr(running, "write_adapter", keep)
    return models


def test_an_adapter_learns_and_says_what_it_gained(folder: Path) -> None:
    told = Told()
    made = trained(job_in(folder, domain="counting", keywords=("say",)), PLAN, told)
    assert made.gain > 0.1
    assert made.adapter.token_accuracy > made.base.token_accuracy
    assert made.adapter.tokens == made.base.tokens > 0
    assert made.train_rows + made.validation_rows == len(ROWS)
    assert told.held_out[made.best_step] == min(told.held_out.values()) == made.adapter.loss
    assert told.steps == list(range(1, made.steps + 1))
    assert told.losses[-1] < told.losses[0]
    assert left_in(folder) == ["base", "mine", "rows.jsonl"]


def test_the_folder_has_what_peft_and_the_registry_read(folder: Path) -> None:
    made = trained(job_in(folder, description="Says numbers.", version="2.1.0"), SHORT)
    assert left_in(made.folder) == [
        "adapter_config.json", "adapter_model.safetensors", "card.toml", "provenance.json",
    ]  # fmt: skip
    registry = AdapterRegistry.from_folder(folder)
    assert not registry.problems
    entry = registry.get_adapter("mine")
    assert entry.card == made.card
    assert (entry.key, entry.card.description) == ("mine@2.1.0", "Says numbers.")
    assert entry.base_model == str((folder / "base").resolve())
    held = {row["prompt"] for row in ROWS} - set(entry.card.examples)
    assert len(entry.card.examples) == 20
    assert len(held) == len(ROWS) - 20


def test_examples_are_not_taken_from_the_rows_held_out(folder: Path) -> None:
    rows = ROWS[:10]
    write_rows(folder / "rows.jsonl", rows)
    made = trained(job_in(folder), replace(SHORT, validation_share=0.4))
    _, held = split(read_rows(folder / "rows.jsonl"), 0.4, PLAN.seed)
    assert len(held) == 4
    assert len(made.card.examples) == 6
    assert not set(made.card.examples) & {row.question for row in held}


def test_fewer_steps_than_epochs_and_the_rate_ends_at_zero_there(folder: Path) -> None:
    told = Told()
    made = trained(job_in(folder), replace(PLAN, epochs=50, max_steps=5, every=None), told)
    assert (made.steps, told.steps) == (5, [1, 2, 3, 4, 5])
    assert made.provenance.hyperparameters["every"] == 5
    whole = trained(
        replace(job_in(folder), out=folder / "whole"), replace(PLAN, epochs=1, max_steps=99)
    )
    assert whole.steps < 99


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_rounded_file_is_what_was_scored(folder: Path, dtype: FileDtype, live: list[Any]) -> None:
    made = trained(job_in(folder), replace(SHORT, save_dtype=dtype))
    stored = load_file(made.folder / "adapter_model.safetensors")
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    assert {tensor.dtype for tensor in stored.values()} == {wanted}
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    loaded = PeftModel.from_pretrained(base, str(made.folder)).eval()
    (model,) = live
    assert loaded(input_ids=tokens()).logits.equal(model.eval()(input_ids=tokens()).logits)


def test_a_share_of_the_rows_is_asked_with_nothing() -> None:
    rows = [
        TrainingRow(n, ({"role": "user", "content": f"say {n}"},), f"it is {n}")
        for n in range(1000)
    ]
    asked = some_unasked(rows, 0.05, seed=3)
    empty = [one for one in asked if one.question == ""]
    assert 25 < len(empty) < 80
    assert [one.response for one in asked] == [one.response for one in rows]
    assert asked == some_unasked(rows, 0.05, seed=3)
    assert some_unasked(rows, 0.0, seed=3) == rows


def test_rows_that_are_asked_with_nothing_train(folder: Path) -> None:
    unasked = trained(job_in(folder), replace(SHORT, blank_share=0.9))
    asked = trained(replace(job_in(folder), out=folder / "asked"), SHORT)
    assert unasked.adapter.loss != asked.adapter.loss
    assert unasked.base.loss == asked.base.loss  # the rows held out are asked as they are


def test_where_the_rows_come_from_may_be_said(folder: Path) -> None:
    made = trained(job_in(folder, data_url="https://example.org/rows"), SHORT)
    assert made.provenance.data is not None
    assert made.provenance.data.location == "https://example.org/rows"
    assert str(folder) not in (made.folder / "provenance.json").read_text().replace(
        str((folder / "base").resolve()), ""
    )


def test_provenance_says_what_and_how(folder: Path) -> None:
    made = trained(job_in(folder), replace(SHORT, every=None))
    found = Provenance.read(made.folder)
    assert found == made.provenance
    assert found is not None
    assert found.data is not None
    assert (found.data.name, found.data.rows) == ("rows.jsonl", len(ROWS))
    assert found.data.location == str(folder / "rows.jsonl")
    assert len(found.data.digest) == 64
    settings = found.hyperparameters
    assert (settings["rank"], settings["alpha"], settings["dropout"]) == (4, 8.0, 0.1)
    assert (settings["dtype"], settings["device"], settings["max_length"]) == ("fp32", "cpu", 64)
    assert settings["every"] == 8
    assert found.seed == PLAN.seed
    assert {"torch", "transformers", "peft", "intrinsic-lora"} <= set(found.libraries)
    assert found.final_loss == made.adapter.loss
    assert found.trainer == "intrinsic train"


def test_what_is_written_gives_the_logits_of_the_training(folder: Path, live: list[Any]) -> None:
    made = trained(job_in(folder), SHORT)
    (model,) = live
    base = AutoModelForCausalLM.from_pretrained(folder / "base").eval()
    loaded = PeftModel.from_pretrained(base, str(made.folder)).eval()
    ids = tokens()
    with torch.inference_mode():
        wanted = model(input_ids=ids).logits
        assert torch.equal(loaded(input_ids=ids).logits, wanted)
        with loaded.disable_adapter():
            assert not torch.equal(loaded(input_ids=ids).logits, wanted)
    checkpoint = read_checkpoint(made.folder)
    weights = dict(model.named_parameters())
    for name, factors in checkpoint.factors.items():
        for which, tensor in (("A", factors.A), ("B", factors.B)):
            live_one = weights[f"base_model.model.{name}.lora_{which}.default.weight"]
            assert torch.equal(tensor, live_one)
    assert len(checkpoint.factors) == 14
    assert all(weight.dtype == torch.float32 for weight in weights.values())


def test_the_same_training_gives_the_same_bytes(folder: Path) -> None:
    one = trained(job_in(folder), SHORT)
    other = trained(job_in(folder, out=folder / "other"), SHORT)
    third = trained(job_in(folder, out=folder / "third"), replace(SHORT, seed=3))
    assert bytes_of(one) == bytes_of(other) != bytes_of(third)


def bytes_of(made: TrainedAdapter[Scores]) -> list[bytes]:
    names = ("adapter_config.json", "adapter_model.safetensors")
    return [(made.folder / name).read_bytes() for name in names]


def test_an_adapter_that_learns_by_heart_is_stopped_and_its_best_is_written(folder: Path) -> None:
    draw = random.Random(1)
    rows = [
        {"prompt": f"p{n}", "response": "".join(draw.choices("abcdefgh", k=12))} for n in range(12)
    ]
    write_rows(folder / "rows.jsonl", rows)
    told = Told()
    plan = replace(PLAN, epochs=300, learning_rate=0.1, patience=2, every=5)
    made = trained(job_in(folder), plan, told)
    assert made.steps < 300
    assert made.steps == made.best_step + 2 * 5
    assert told.best[-1] == made.best_step
    assert made.adapter.loss == told.held_out[made.best_step] < told.held_out[made.steps]


def test_named_layers_alone_are_adapted(folder: Path) -> None:
    targets = ("q_proj", "layers.1.mlp.up_proj")
    made = trained(job_in(folder), replace(SHORT, targets=targets))
    assert set(read_checkpoint(made.folder).factors) == {
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
    }


def test_layers_that_are_not_there_are_refused_with_those_that_are(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"'q_prj' \(did you mean 'q_proj'\?\); it has down_proj"):
        trained(job_in(folder), replace(SHORT, targets=("q_prj",)))
    assert left_in(folder) == ["base", "rows.jsonl"]


def test_a_gpt2_is_trained_too(folder: Path) -> None:
    write_base(folder / "base", gpt2(), chat=False)
    made = trained(job_in(folder), SHORT)
    assert made.gain > 0
    ends = {name.rpartition(".")[2] for name in read_checkpoint(made.folder).factors}
    assert ends == {"c_attn", "c_proj", "c_fc"}


def test_gradient_checkpointing_computes_the_same(folder: Path, live: list[Any]) -> None:
    plain = trained(job_in(folder), SHORT)
    saving = trained(
        job_in(folder, out=folder / "other"), replace(SHORT, gradient_checkpointing=True)
    )
    used = [any(getattr(m, "gradient_checkpointing", False) for m in one.modules()) for one in live]
    assert used == [False, True]
    weights = [load_file(made.folder / "adapter_model.safetensors") for made in (plain, saving)]
    torch.testing.assert_close(weights[0], weights[1])


def test_bf16_trains_about_as_well_and_is_written_in_fp32(folder: Path) -> None:
    exact = trained(job_in(folder), SHORT)
    rounded = trained(job_in(folder, out=folder / "other"), replace(SHORT, dtype="bf16"))
    assert rounded.adapter.loss == pytest.approx(exact.adapter.loss, rel=0.05)
    assert rounded.adapter.loss != exact.adapter.loss
    tensors = load_file(rounded.folder / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_prompts_that_are_cut_are_said(folder: Path) -> None:
    told = Told()
    made = trained(job_in(folder), replace(SHORT, max_length=20), told)
    assert made.shortened == len(ROWS)
    assert told.notes == ["24 of 24 rows have more than 20 tokens; their prompts lose their "
                          "beginning"]  # fmt: skip


def test_more_tokens_than_the_model_reads_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--max-length is 65; the model reads at most 64"):
        trained(job_in(folder), replace(SHORT, max_length=65))


def test_broken_rows_leave_nothing_behind(folder: Path) -> None:
    write_rows(folder / "rows.jsonl", [*ROWS, "{}"])
    with pytest.raises(ConfigError, match="line 25: prompt is missing"):
        trained(job_in(folder, out=folder / "deep" / "mine"), SHORT)
    assert left_in(folder) == ["base", "rows.jsonl"]


def test_a_folder_that_is_taken_is_refused_before_anything_is_read(folder: Path) -> None:
    (folder / "mine").mkdir()
    with pytest.raises(AdapterExistsError, match="exists already"):
        trained(job_in(folder, data=folder / "none.jsonl"), SHORT)
    with pytest.raises(AdapterExistsError, match="is not a folder of one adapter"):
        trained(job_in(folder, force=True), SHORT)


def test_force_replaces_an_adapter_and_a_failure_leaves_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bytes_of(trained(job_in(folder), SHORT))
    second = trained(job_in(folder, force=True), replace(SHORT, seed=5))
    after = bytes_of(second)
    assert after != first

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("intrinsic.training.lora.writing.write_card", fail)
    with pytest.raises(AdapterError, match="its disk is full"):
        trained(job_in(folder, force=True), SHORT)
    assert bytes_of(second) == after
    monkeypatch.undo()
    assert trained(job_in(folder, force=True), SHORT).resumed_from > 0
    assert left_in(folder) == ["base", "mine", "rows.jsonl"]


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), CapacityError, "--batch-tokens (now 160)"),
        (MemoryError(), CapacityError, "give --gradient-checkpointing"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), CapacityError, "--rank"),
        (RuntimeError("PytorchStreamWriter failed writing"), AdapterError, "disk is full"),
        (OSError(28, "No space left on device"), AdapterError, "disk is full"),
        (PermissionError(13, "Permission denied"), AdapterError, "cannot be written: Permission"),
    ],
)
def test_what_runs_out_is_said_in_a_sentence(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    error: type[Exception],
    words: str,
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("intrinsic.training.lora.trainer.declare_whole", fail)
    with pytest.raises(error) as refused:
        trained(job_in(folder), SHORT)
    assert words in str(refused.value)
    assert left_in(folder) == ["base", "rows.jsonl"]


def test_other_faults_get_out_as_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("intrinsic.training.lora.trainer.declare_whole", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        trained(job_in(folder), SHORT)


def test_a_loss_that_runs_away_ends_the_training(folder: Path) -> None:
    with pytest.raises(BackendError, match="lower --lr than 1e"):
        trained(job_in(folder), replace(PLAN, learning_rate=1e30))
    assert left_in(folder) == ["base", "rows.jsonl"]


@pytest.mark.parametrize("package", ["peft", "accelerate"])
def test_a_missing_package_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"package {package}.*pip install .*\[train\]"):
        trained(job_in(folder), SHORT)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every attempt to reach another machine, none of which succeeds."""
    attempts: list[object] = []

    def refuse(*given: object, **_: object) -> None:
        attempts.append(given)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts


def test_a_base_that_is_not_here_is_never_downloaded(folder: Path, network: list[object]) -> None:
    for name in ("nobody/none", str(folder / "none"), "a b/c", "~nobody-at-all/x", ""):
        with pytest.raises(BackendError, match="nothing is downloaded"):
            trained(job_in(folder, base=name), SHORT)
    with pytest.raises(BackendError, match=r"is no model: it has no config\.json"):
        trained(job_in(folder, base=str(folder)), SHORT)
    assert network == []


def test_a_base_in_the_hubs_cache_is_found_with_its_revision(
    folder: Path, monkeypatch: pytest.MonkeyPatch, network: list[object]
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = folder / "cache" / "models--some--tiny"
    write_base(cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "cache"))
    made = trained(job_in(folder, base="some/tiny"), SHORT)
    assert (made.provenance.base_model, made.provenance.base_revision) == ("some/tiny", commit)
    config = json.loads((made.folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("some/tiny", commit)
    assert network == []


def test_the_bundled_base_has_its_name() -> None:
    found = find_base("intrinsic/base")
    assert (found.name, found.revision) == ("intrinsic/base", "")
    assert find_base(str(found.folder)) == found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_training_on_cuda_gains_too(folder: Path, dtype: Dtype) -> None:
    made = trained(job_in(folder), replace(PLAN, device="cuda", dtype=dtype))
    assert made.gain > 0.1
    assert made.provenance.hyperparameters["device"] == "cuda"


def test_cuda_that_is_not_there_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device is 'cuda', and torch finds no CUDA device"):
        trained(job_in(folder), replace(SHORT, device="cuda"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"rank": 0}, "--rank is 0; it must be a whole number of at least 1"),
        ({"rank": True}, "--rank is True"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"learning_rate": 0.0}, "--lr is 0.0; it must be more than 0"),
        ({"learning_rate": float("nan")}, "--lr is nan"),
        ({"alpha": -1.0}, "--alpha is -1.0"),
        ({"dropout": 1.0}, "--dropout is 1.0; it must be at least 0 and less than 1"),
        ({"validation_share": 0.0}, "--validation-share is 0.0"),
        ({"max_length": 1}, "--max-length is 1"),
        ({"seed": 2**32}, "--seed is 4294967296"),
        ({"dtype": "fp8"}, "--dtype is 'fp8'; it must be one of auto, fp32, bf16"),
        ({"device": "tpu"}, "--device is 'tpu'; it must be one of auto, cpu, cuda"),
    ],
)
def test_a_setting_that_is_not_valid_is_refused(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        LoraPlan(**setting)
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["a/b", ".hidden", "a\\b"])
def test_a_name_that_is_no_folder_needs_one(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="choose another --name, or a folder with --out"):
        job_in(folder, name=name, out=None)
    job_in(folder, name=name)
