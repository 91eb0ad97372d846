"""One training from its beginning to the folder, step by step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from intrinsic.errors import ConfigError
from intrinsic.lora.save import check_target
from intrinsic.registry.provenance import Provenance, TrainingData
from intrinsic.training.lora.base import (
    BaseModel,
    choose_targets,
    context_of,
    find_base,
    load_base,
    stops_of,
)
from intrinsic.training.lora.checkpoints import Checkpoints, read_state
from intrinsic.training.lora.encoding import RowEncoder
from intrinsic.training.lora.examples import draw_examples
from intrinsic.training.lora.failures import in_words
from intrinsic.training.lora.fresh import add_adapter
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.order import one_pass, passes
from intrinsic.training.lora.plan import LONGEST, MOST_STEPS_BETWEEN, LoraPlan
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.result import TrainedAdapter
from intrinsic.training.lora.rows import TrainingFile, TrainingRow, read_rows, some_unasked
from intrinsic.training.lora.scores import Scores, score
from intrinsic.training.lora.split import split
from intrinsic.training.lora.start import Start, start_from
from intrinsic.training.lora.trainer import Course, Fit, fit
from intrinsic.training.lora.writing import library_versions, round_adapter, write_adapter

TRAINER = "intrinsic train"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """All that a training works on."""

    job: TrainingJob
    data: TrainingFile
    train: list[TrainingRow]
    base: BaseModel
    course: Course
    shortened: int
    start: Start | None

    @property
    def identity(self) -> dict[str, Any]:
        """What two runs must share for one to go on from the other's checkpoints."""
        found = self.course.plan.as_json() | {"data": self.data.digest, "base": self.base.digest}
        return found | _started(self.start)


def run(job: TrainingJob, plan: LoraPlan, progress: Progress) -> TrainedAdapter:
    """Do what `trained` promises; PEFT and accelerate are there."""
    started = time.monotonic()
    target = check_target(job.folder, replace=job.force)
    checkpoints = Checkpoints(target)
    with in_words(plan, target):
        prepared = _prepare(job, plan)
        if prepared.shortened:
            progress.note(
                f"{prepared.shortened} of {len(prepared.data.rows)} rows have more than "
                f"{prepared.course.plan.max_length} tokens; their prompts lose their beginning"
            )
        with checkpoints.open(prepared.identity, resume=job.resume) as resume:
            begun = int(read_state(resume)["global_step"]) if resume else 0
            if begun:
                progress.note(f"going on from step {begun}, kept in {checkpoints.folder}")
            made = fit(prepared.course, checkpoints, resume, progress)
            round_adapter(prepared.course.model, prepared.course.plan.save_dtype)
            base, adapter = _scores(prepared.course)
            result = _result(
                prepared, target, made, base, adapter, begun, time.monotonic() - started
            )
            write_adapter(
                prepared.course.model,
                prepared.base,
                target,
                result.card,
                result.provenance,
                prepared.course.plan.save_dtype,
            )
            checkpoints.remove()
    return result


def _prepare(job: TrainingJob, plan: LoraPlan) -> _Prepared:
    data = read_rows(job.data)
    train, held = split(data, plan.validation_share, plan.seed)
    plan = _on_this_machine(plan)
    base = find_base(job.base)
    dtype = torch.bfloat16 if plan.dtype == "bf16" else torch.float32
    model, tokenizer = load_base(base, dtype)
    start = None if job.start is None else start_from(job.start, model)
    plan = plan if start is None else start.planned(plan)
    plan = replace(
        plan,
        alpha=plan.scale,
        max_length=_max_length(plan, context_of(model)),
        targets=choose_targets(model, plan.targets),
    )
    encoder = RowEncoder(tokenizer, plan.max_length or LONGEST, stops_of(model, tokenizer))
    asked = some_unasked(train, plan.blank_share, plan.seed)
    encoded = encoder.encode_all(data.path, [*asked, *held])
    learned = passes(encoded[: len(train)], plan.batch_tokens, plan.seed, plan.epochs)
    epoch = math.ceil(len(learned) / plan.epochs)
    learned = learned[: plan.max_steps]
    every = plan.every or min(epoch, len(learned), MOST_STEPS_BETWEEN)
    plan = replace(plan, every=every)
    held_out = one_pass(encoded[len(train) :], plan.batch_tokens)
    course = Course(add_adapter(model, plan, plan.targets, start), learned, held_out, plan)
    return _Prepared(job, data, train, base, course, encoder.shortened, start)


def _started(start: Start | None) -> dict[str, Any]:
    """What is noted of the adapter that a training started from."""
    return {} if start is None else {"start": start.digest}


def _on_this_machine(plan: LoraPlan) -> LoraPlan:
    """The plan with its device and number format chosen. Raises `ConfigError` without CUDA."""
    cuda = torch.cuda.is_available()
    if plan.device == "cuda" and not cuda:
        raise ConfigError(
            "--device is 'cuda', and torch finds no CUDA device here; use cpu or auto"
        )
    device = ("cuda" if cuda else "cpu") if plan.device == "auto" else plan.device
    if plan.dtype != "auto":
        return replace(plan, device=device)
    has_bf16 = device == "cuda" and torch.cuda.is_bf16_supported()
    return replace(plan, device=device, dtype="bf16" if has_bf16 else "fp32")


def _max_length(plan: LoraPlan, context: int | None) -> int:
    if plan.max_length is None:
        return min(context or LONGEST, LONGEST)
    if context is not None and plan.max_length > context:
        raise ConfigError(
            f"--max-length is {plan.max_length}; the model reads at most {context} tokens"
        )
    return plan.max_length


def _scores(course: Course) -> tuple[Scores, Scores]:
    """The base model's scores and the adapter's, on the same rows in the same batches."""
    model = course.model
    device = next(model.parameters()).device
    with model.disable_adapter():
        base = score(model, course.held_out, course.dtype, device)
    return base, score(model, course.held_out, course.dtype, device)


def _result(
    prepared: _Prepared,
    target: Path,
    made: Fit,
    base: Scores,
    adapter: Scores,
    begun: int,
    seconds: float,
) -> TrainedAdapter:
    plan, data, rows = prepared.course.plan, prepared.data, prepared.train
    hyperparameters = plan.as_json() | {
        "steps": made.steps,
        "best_step": made.best_step,
        "train_rows": len(rows),
        "validation_rows": adapter.rows,
        "train_loss": made.train_loss,
        "base_loss": base.loss,
        "optimizer": "adamw",
        "schedule": "linear after 3 % warm-up",
    }
    hyperparameters |= _started(prepared.start)
    del hyperparameters["seed"]
    provenance = Provenance(
        data=TrainingData(
            data.path.name,
            data.digest,
            len(data.rows),
            prepared.job.data_url or str(data.path.expanduser().resolve()),
        ),
        hyperparameters=hyperparameters,
        base_model=prepared.base.name,
        base_revision=prepared.base.revision,
        seed=plan.seed,
        libraries=library_versions(),
        final_loss=adapter.loss,
        trained_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        trainer=TRAINER,
    )
    return TrainedAdapter(
        folder=target,
        card=prepared.job.card(draw_examples((row.question for row in rows), plan.seed)),
        provenance=provenance,
        base=base,
        adapter=adapter,
        train_rows=len(rows),
        validation_rows=adapter.rows,
        shortened=prepared.shortened,
        parameters=sum(p.numel() for p in prepared.course.model.parameters() if p.requires_grad),
        steps=made.steps,
        best_step=made.best_step,
        resumed_from=begun,
        seconds=seconds,
    )
