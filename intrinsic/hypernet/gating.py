"""The gate of an encoder for a set of tasks, from their descriptions and from nonsense."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from intrinsic.hypernet.calibration import Calibration, calibrate, calibrated_gate
from intrinsic.hypernet.encoders import TextEncoder
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.tasks import Task, thinned

LOST = 0.5
"""Of the words of a description, so many are missing where the least likeness is looked for."""


def gate_of(
    encoder: TextEncoder,
    tasks: Sequence[Task],
    nonsense: Sequence[str],
    *,
    refuse_good: float = 0.01,
    max_relative_norm: float | None = None,
    seed: int = 0,
) -> tuple[Gate, Calibration]:
    """Calibrate a gate on all descriptions of the tasks, and on queries that mean none of them.

    Raises as `calibrate` does.
    """
    vectors, reworded = {}, {}
    for task in tasks:
        vectors[task.name] = torch.from_numpy(encoder.encode(task.descriptions))
        short = thinned(task, LOST, 1, seed).descriptions[len(task.descriptions) :]
        reworded[task.name] = torch.from_numpy(encoder.encode(short))
    foreign = torch.from_numpy(encoder.encode(nonsense))
    calibration = calibrate(vectors, foreign, reworded=reworded, refuse_good=refuse_good)
    return calibrated_gate(vectors, calibration, max_relative_norm=max_relative_norm), calibration
