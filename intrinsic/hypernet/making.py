"""One training of a hypernetwork from its beginning to the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from intrinsic.errors import HypernetError
from intrinsic.extras import how_to_install
from intrinsic.hypernet.base_norms import base_norms
from intrinsic.hypernet.calibration import Calibration
from intrinsic.hypernet.checkpoint import check_room, save
from intrinsic.hypernet.course import Course, Trained
from intrinsic.hypernet.curves import draw_curves
from intrinsic.hypernet.encoded import TaskEncoder
from intrinsic.hypernet.encoders import TextEncoder, encoder_named
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.gating import gate_of
from intrinsic.hypernet.generator import WeightGenerator
from intrinsic.hypernet.job import HypernetJob, Parts, home_of, parted
from intrinsic.hypernet.least_share import least_share
from intrinsic.hypernet.loop import train
from intrinsic.hypernet.marks import BaseMark, EncoderMark
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.nonsense import nonsense_queries
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.targets import targets_of
from intrinsic.hypernet.tasks import Task, digest_of, read_tasks
from intrinsic.training.lora.base import find_base, load_base
from intrinsic.training.lora.checkpoints import Checkpoints
from intrinsic.training.lora.failures import told_to_lower
from intrinsic.training.lora.progress import Progress

CURVES = "curves.png"
_LARGER = 1.5
"""Weights may be so many times as large as the largest of a training description."""
_QUERIES = 512
_AT_ONCE = 64
_REFUSED = 0.95
"""A gate that refuses less of what is nonsense is worth a word."""


@dataclass(frozen=True, slots=True)
class MadeHypernet:
    """A hypernetwork's folder, what its training did, and what its gate refuses."""

    folder: Path
    trained: Trained
    calibration: Calibration
    parts: Parts
    sizes: dict[str, object]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "path": str(self.folder),
            "network": self.sizes,
            "tasks": self.parts.names(),
            "gate": self.calibration.as_json(),
        } | self.trained.as_json()


def make_hypernet(
    job: HypernetJob, plan: HypernetPlan | None = None, progress: Progress | None = None
) -> MadeHypernet:
    """Train a hypernetwork on a folder of tasks, calibrate its gate, and write its folder.

    Everything that can be known before is checked before, and the folder is there whole or not at
    all. A run that was killed goes on from its last checkpoint when it is asked for again. It
    blocks. Raises what `train` raises, `AdapterExistsError` where the folder is taken, and
    `BackendError` for a base that is not there, `CapacityError` for a full memory, `AdapterError`
    for a full disk.
    """
    plan, progress = plan or HypernetPlan(), progress or Progress()
    target = home_of(job.out).absolute()
    check_room(target, job.force)

    def ways() -> str:
        sizes = f"--tasks-per-step (now {plan.tasks_per_step}), --rows-per-task"
        return f"{sizes} (now {plan.rows_per_task}), --max-length or --rank (now {job.rank})"

    with told_to_lower(ways, target):
        return _make(job, plan, progress, target)


def _make(job: HypernetJob, plan: HypernetPlan, progress: Progress, target: Path) -> MadeHypernet:
    parts = parted(read_tasks(job.data), job, plan.seed)
    encoder = encoder_named(job.encoder)
    base = find_base(job.base)
    model, tokenizer = load_base(base, torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = HyperNetwork(
            targets_of(model, job.targets),
            encoder.dimension,
            job.rank,
            job.alpha,
            architecture=job.architecture,
            **job.options,
        )
    stored = job.stored(parts.learned)
    course = Course(
        model, tokenizer, network, encoder, parts.learned, parts.validation, adapters=stored
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(target)
    encoded = TaskEncoder(model, tokenizer, encoder, plan.max_length)
    encoded.check(parts.unseen_rows)  # which are read when all is learned
    trained = train(course, plan, progress, checkpoints, resume=job.resume)
    gate, calibration = gate_for(
        model, network, encoder, parts.learned, plan.seed, refuse_good=job.refuse_good
    )
    gate.example_share = least_share(model, network, encoded.tasks(parts.validation))
    if calibration.refused_nonsense < _REFUSED:
        progress.note(_lets_through(calibration))
    marks = BaseMark.of(model, base.name), EncoderMark.of(encoder)
    made = MadeHypernet(target, trained, calibration, parts, network.describe())
    record = made.as_json() | {
        "plan": plan.as_json(),
        "held_rows": job.held_rows,
        "data": digest_of((*parts.learned, *parts.validation)),
    }
    del record["path"], record["network"]

    def drawn(folder: Path) -> None:
        if not draw_curves(trained.history, folder / CURVES):
            progress.note("no curves are drawn without matplotlib; " + how_to_install("plots"))

    save(
        network,
        target,
        base=marks[0],
        encoder=marks[1],
        gate=gate,
        record=record,
        replace=job.force,
        beside=drawn,
    )
    checkpoints.remove()
    return made


def gate_for(
    model: PreTrainedModel,
    network: HyperNetwork,
    encoder: TextEncoder,
    tasks: Sequence[Task],
    seed: int = 0,
    *,
    refuse_good: float = 0.01,
) -> tuple[Gate, Calibration]:
    """The gate of a trained network for its encoder, from its tasks' descriptions and nonsense.

    It bounds the size of weights at 1.5 times the largest of a description, and refuses at most
    `refuse_good` of these.
    """
    texts = [text for task in tasks for text in task.descriptions]
    bound = _LARGER * largest_change(model, network, torch.from_numpy(encoder.encode(texts)))
    if bound == 0:
        raise HypernetError(
            "the hypernetwork learned nothing, its weights are 0 for every description; train it "
            "for more steps, or with a higher --lr"
        )
    return gate_of(
        encoder,
        tasks,
        nonsense_queries(_QUERIES, seed + 1),
        refuse_good=refuse_good,
        max_relative_norm=bound,
        seed=seed,
    )


def _lets_through(calibration: Calibration) -> str:
    return (
        f"the gate lets {1 - calibration.refused_nonsense:.0%} of nonsense queries through, for "
        "the tasks' descriptions are as far from one another: give more tasks, or more "
        "descriptions of each, or a higher --refuse-good, or check queries on an example"
    )


def largest_change(model: PreTrainedModel, network: HyperNetwork, embeddings: Tensor) -> float:
    """The largest `‖ΔW‖ / ‖W‖` of any target for any of these queries `(n, d)`."""
    generator = WeightGenerator(network, base_norms(model, network.targets))
    return max(
        one.relative_norm
        for part in torch.split(embeddings, _AT_ONCE)
        for one in generator.generate_batch(part)
    )
