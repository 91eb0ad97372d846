"""Which share of its loss an example must lose, found on tasks that the network has not learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from intrinsic.hypernet.calibration import threshold_between
from intrinsic.hypernet.check import MARGIN, SHARE
from intrinsic.hypernet.encoded import EncodedTask
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.scores import generated_for, row_losses

MOST = 0.9
"""More is never asked for."""
_ROWS = 16
_OTHERS = 8


def share_of(gate: Gate | None) -> float:
    """The share that was found with a gate, or the one for networks that were never asked."""
    return SHARE if gate is None or gate.example_share is None else gate.example_share


def least_share(
    model: PreTrainedModel,
    network: HyperNetwork,
    tasks: Sequence[EncodedTask],
    *,
    refuse_good: float = 0.01,
) -> float | None:
    """The share of the bare loss that tells right weights from those of another task.

    Each task's rows are examples, under weights of its first description and, as the wrong ones, of
    other tasks'. It lies in the middle between the two kinds, or lets at most `refuse_good` of the
    right examples fail where they overlap; from `SHARE` to `MOST`. None where there are no two
    tasks to tell apart.
    """
    if len(tasks) < 2:
        return None
    apart = range(min(len(tasks) - 1, _OTHERS) + 1)  # 0 is the task itself
    lost: list[list[Tensor]] = [[] for _ in apart]
    for at, task in enumerate(tasks):
        rows = task.rows[:_ROWS]
        bare = row_losses(model, rows)
        for step in apart:
            described = tasks[(at + step) % len(tasks)]
            with torch.no_grad(), generated_for(model, network, described.embeddings[:1]):
                share = 1 - row_losses(model, rows) / bare
            lost[step].append(share[bare > MARGIN])  # what is no worse bare never passes
    right, wrong = torch.cat(lost[0]), torch.cat([part for parts in lost[1:] for part in parts])
    if not len(right) or not len(wrong):
        return None
    return min(max(threshold_between(right, wrong, refuse_good), SHARE), MOST)
