"""One training from its beginning to the folder, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from intrinsic.lora.save import check_target
from intrinsic.registry.provenance import Provenance, TrainingData
from intrinsic.training.lora.checkpoints import Checkpoints, read_state
from intrinsic.training.lora.examples import draw_examples
from intrinsic.training.lora.failures import told_to_lower
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.preparing import PlanT, Prepared, ScoresT
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.result import TrainedAdapter
from intrinsic.training.lora.trainer import Fit, fit
from intrinsic.training.lora.writing import library_versions, round_adapter, write_adapter

TRAINER = "intrinsic train"


def run(
    job: TrainingJob,
    plan: PlanT,
    progress: Progress,
    prepare: Callable[[TrainingJob, PlanT], Prepared[ScoresT]],
    ways: Callable[[PlanT], str],
) -> TrainedAdapter[ScoresT]:
    """Do what `trained` promises, for any kind of rows; all packages are there.

    `ways` says what of the plan to lower where the memory is full.
    """
    started = time.monotonic()
    target = check_target(job.folder, replace=job.force)
    checkpoints = Checkpoints(target)
    with told_to_lower(lambda: ways(plan), target):
        prepared = prepare(job, plan)
        course = prepared.course
        if prepared.note:
            progress.note(prepared.note)
        with checkpoints.open(prepared.identity, resume=job.resume) as resume:
            begun = int(read_state(resume)["global_step"]) if resume else 0
            if begun:
                progress.note(f"going on from step {begun}, kept in {checkpoints.folder}")
            made = fit(course, prepared.make, checkpoints, resume, progress)
            round_adapter(course.model, course.plan.save_dtype)
            base, adapter = _scores(prepared)
            result = TrainedAdapter(
                folder=target,
                card=job.card(draw_examples(prepared.questions, course.plan.seed)),
                provenance=_provenance(prepared, job, made, base, adapter),
                base=base,
                adapter=adapter,
                train_rows=prepared.train_rows,
                validation_rows=adapter.rows,
                shortened=prepared.shortened,
                parameters=sum(p.numel() for p in course.model.parameters() if p.requires_grad),
                steps=made.steps,
                best_step=made.best_step,
                resumed_from=begun,
                seconds=time.monotonic() - started,
            )
            write_adapter(
                course.model,
                prepared.base,
                target,
                result.card,
                result.provenance,
                course.plan.save_dtype,
            )
            checkpoints.remove()
    return result


def _scores(prepared: Prepared[ScoresT]) -> tuple[ScoresT, ScoresT]:
    """The base model's scores and the adapter's, on the same rows in the same batches."""
    with prepared.course.model.disable_adapter():
        base = prepared.score()
    return base, prepared.score()


def _provenance(
    prepared: Prepared[ScoresT], job: TrainingJob, made: Fit, base: ScoresT, adapter: ScoresT
) -> Provenance:
    plan, data = prepared.course.plan, prepared.data
    hyperparameters = plan.as_json() | {
        "steps": made.steps,
        "best_step": made.best_step,
        "train_rows": prepared.train_rows,
        "validation_rows": adapter.rows,
        "train_loss": made.train_loss,
        "base_loss": base.loss,
        "optimizer": "adamw",
        "schedule": "linear after 3 % warm-up",
    }
    hyperparameters |= dict(prepared.started)
    del hyperparameters["seed"]
    return Provenance(
        data=TrainingData(
            data.path.name, data.digest, len(data.rows), job.data_url or _full(data.path)
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


def _full(path: Path) -> str:
    return str(path.expanduser().resolve())
