"""The gate's threshold, found for the encoder in use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from intrinsic.errors import ConfigError
from intrinsic.hypernet.gate import Gate, mean_of_nearest, unit_rows
from intrinsic.hypernet.network import Embedding


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold, and what it does on the queries that it was found on.

    `refused_good` and `refused_nonsense` are shares of each kind; `auroc` is how often a good query
    scores above a nonsensical one, ties counting half.
    """

    threshold: float
    refused_good: float
    refused_nonsense: float
    auroc: float
    good: int
    nonsense: int


def calibrate(
    descriptions_by_task: Mapping[str, Embedding],
    nonsense: Embedding,
    *,
    refuse_good: float = 0.01,
    neighbours: int = 4,
) -> Calibration:
    """Find a threshold from descriptions `(k, d)` per task and nonsense queries `(q, d)`.

    A description's score is taken without the other descriptions of its own task, as for a task
    never trained on. The threshold lies in the middle of the gap between the two kinds, where there
    is one; else it refuses at most `refuse_good` of the good queries, and the nonsense below it.
    Raises `ConfigError` for fewer than two tasks and a share that is none.
    """
    if not 0 <= refuse_good < 1:
        raise ConfigError(f"refuse_good is {refuse_good!r}; it must be from 0 to below 1")
    if len(descriptions_by_task) < 2:
        raise ConfigError(
            f"a gate is calibrated on two tasks or more, not {len(descriptions_by_task)}"
        )
    rows = {task: unit_rows(found, task) for task, found in descriptions_by_task.items()}
    everything = torch.cat(list(rows.values()))
    good = torch.cat(
        [
            mean_of_nearest(own, torch.cat([r for t, r in rows.items() if t != task]), neighbours)
            for task, own in rows.items()
        ]
    )
    bad = mean_of_nearest(unit_rows(nonsense, "nonsense"), everything, neighbours)
    threshold = _threshold(good, bad, refuse_good)
    return Calibration(
        threshold=threshold,
        refused_good=int((good < threshold).sum()) / len(good),
        refused_nonsense=int((bad < threshold).sum()) / len(bad),
        auroc=_auroc(good, bad),
        good=len(good),
        nonsense=len(bad),
    )


def calibrated_gate(
    descriptions_by_task: Mapping[str, Embedding],
    calibration: Calibration,
    *,
    max_relative_norm: float | None = None,
    neighbours: int = 4,
) -> Gate:
    """The gate with all tasks' descriptions and the threshold that was found on them."""
    rows = [unit_rows(found, task) for task, found in descriptions_by_task.items()]
    return Gate(
        torch.cat(rows),
        calibration.threshold,
        max_relative_norm=max_relative_norm,
        neighbours=neighbours,
    )


def _threshold(good: torch.Tensor, bad: torch.Tensor, refuse_good: float) -> float:
    refused = min(math.floor(refuse_good * len(good)), len(good) - 1)
    lowest = float(good.sort().values[refused])  # so many of the good are below it
    highest = float(bad.max())
    least = float(good.min())
    if highest < least:
        return (highest + least) / 2
    return (highest + lowest) / 2 if highest < lowest else lowest


def _auroc(good: torch.Tensor, bad: torch.Tensor) -> float:
    ordered = bad.sort().values
    below = torch.searchsorted(ordered, good, right=False)
    up_to = torch.searchsorted(ordered, good, right=True)
    return float((below + up_to).double().mean() / 2 / len(bad))
