"""The gate's thresholds, found for the encoder in use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from intrinsic.errors import ConfigError
from intrinsic.hypernet.gate import Gate, mean_of_nearest
from intrinsic.hypernet.network import Embedding
from intrinsic.hypernet.probe import Probe, fit_probe
from intrinsic.hypernet.unit_rows import unit_rows

_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold and a probe, and what they do together on queries that they have not seen.

    `refused_good` and `refused_nonsense` are shares of each kind; `auroc` is how often the probe
    gives a good query more than a nonsensical one, ties counting half.
    """

    threshold: float
    probe: Probe
    refused_good: float
    refused_nonsense: float
    auroc: float
    good: int
    nonsense: int

    def as_json(self) -> dict[str, Any]:
        """Return plain values, the probe's direction left out."""
        return {
            "threshold": self.threshold,
            "probe_threshold": self.probe.threshold,
            "refused_good": self.refused_good,
            "refused_nonsense": self.refused_nonsense,
            "auroc": self.auroc,
            "good": self.good,
            "nonsense": self.nonsense,
        }


def calibrate(
    descriptions_by_task: Mapping[str, Embedding],
    nonsense: Embedding,
    *,
    reworded: Mapping[str, Embedding] | None = None,
    refuse_good: float = 0.01,
    neighbours: int = 4,
) -> Calibration:
    """Find thresholds from descriptions `(k, d)` per task and nonsense queries `(q, d)`.

    A description is judged without the other descriptions of its own task, as for a task never
    trained on, and so is nonsense by a probe that was not fitted to it. The probe's threshold lies
    in the middle of the gap between the two kinds, where there is one; else it refuses at most half
    of `refuse_good`, and the nonsense below it. The cosine's is found in the same way, and lower
    where the descriptions `reworded` by task ask for it: what a user says is farther away than what
    training said, and to refuse what means nothing is the probe's work.
    Raises `ConfigError` for fewer than two tasks or nonsense queries, and a share that is none.
    """
    if not 0 <= refuse_good < 1:
        raise ConfigError(f"refuse_good is {refuse_good!r}; it must be from 0 to below 1")
    if len(descriptions_by_task) < 2:
        raise ConfigError(
            f"a gate is calibrated on two tasks or more, not {len(descriptions_by_task)}"
        )
    rows = {task: unit_rows(found, task) for task, found in descriptions_by_task.items()}
    foreign = unit_rows(nonsense, "nonsense")
    if len(foreign) < 2:
        raise ConfigError("a gate is calibrated on two nonsense queries or more, not 1")
    asked = rows
    if reworded is not None:
        asked = {task: unit_rows(reworded[task], task) for task in rows}
    cosines = _cosines_of_good(rows, rows, neighbours)
    far = _cosines_of_good(rows, asked, neighbours)
    near = mean_of_nearest(foreign, torch.cat(list(rows.values())), neighbours)
    threshold = min(threshold_between(good, near, refuse_good / 2) for good in (cosines, far))
    odds, foreign_odds = _cross_validated(rows, foreign)
    probe = fit_probe(torch.cat(list(rows.values())), foreign).at(
        threshold_between(odds, foreign_odds, refuse_good / 2)
    )
    good = (cosines < threshold) | (odds < probe.threshold)
    bad = (near < threshold) | (foreign_odds < probe.threshold)
    return Calibration(
        threshold=threshold,
        probe=probe,
        refused_good=float(good.double().mean()),
        refused_nonsense=float(bad.double().mean()),
        auroc=_auroc(odds, foreign_odds),
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
    """The gate with all tasks' descriptions, and the threshold and probe that were found."""
    rows = [unit_rows(found, task) for task, found in descriptions_by_task.items()]
    return Gate(
        torch.cat(rows),
        calibration.threshold,
        max_relative_norm=max_relative_norm,
        neighbours=neighbours,
        probe=calibration.probe,
    )


def _cosines_of_good(
    rows: Mapping[str, torch.Tensor], asked: Mapping[str, torch.Tensor], neighbours: int
) -> torch.Tensor:
    """Each query's mean cosine with the nearest descriptions of the other tasks."""
    return torch.cat(
        [
            mean_of_nearest(own, torch.cat([r for t, r in rows.items() if t != task]), neighbours)
            for task, own in asked.items()
        ]
    )


def _cross_validated(
    rows: Mapping[str, torch.Tensor], foreign: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-odds of descriptions and of nonsense, each by a probe that saw others alone."""
    folds = min(_FOLDS, len(rows), len(foreign))
    tasks = list(rows.values())
    odds: list[torch.Tensor] = [torch.empty(0)] * len(tasks)
    foreign_odds = torch.empty(len(foreign))
    part = torch.arange(len(foreign)) % folds
    for fold in range(folds):
        known = [task for at, task in enumerate(tasks) if at % folds != fold]
        probe = fit_probe(torch.cat(known), foreign[part != fold])
        foreign_odds[part == fold] = probe.log_odds(foreign[part == fold])
        for at in range(fold, len(tasks), folds):
            odds[at] = probe.log_odds(tasks[at])
    return torch.cat(odds), foreign_odds


def threshold_between(good: torch.Tensor, bad: torch.Tensor, refuse_good: float) -> float:
    """The middle of the gap between two kinds `(n,)`; else so many of the good are refused."""
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
