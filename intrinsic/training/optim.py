"""Muon for the weight matrices, AdamW for embeddings and norms.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces a matrix's momentum
`G` by the nearest semi-orthogonal matrix, found with five Newton-Schulz steps on
`X <- a X + (b X Xᵀ + c (X Xᵀ)²) X`. A small model learns more from the same few tokens with it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
MATRIX_LEARNING_RATE = 0.02
VECTOR_LEARNING_RATE = 0.01


def orthogonalise(gradient: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The semi-orthogonal matrix near `gradient` (rows, cols), approximately, found in `dtype`."""
    a, b, c = NEWTON_SCHULZ
    tall = gradient.shape[0] > gradient.shape[1]
    x: Tensor = (gradient.T if tall else gradient).to(dtype)
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T  # (rows, rows)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(gradient.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay. Matrices only."""

    def __init__(
        self,
        matrices: Iterable[Tensor],
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._dtype = dtype
        defaults = {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(matrices, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update from the gradients at hand."""
        for group in self.param_groups:
            for matrix in group["params"]:
                self._update(matrix, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, matrix: Tensor, rate: float, momentum: float, decay: float) -> None:
        if matrix.grad is None:
            return
        state = self.state[matrix]
        if not state:
            state["velocity"] = torch.zeros_like(matrix)
        velocity = state["velocity"].lerp_(matrix.grad, 1 - momentum)
        update = orthogonalise(matrix.grad.lerp(velocity, momentum), self._dtype)
        rows, cols = matrix.shape
        matrix.mul_(1 - rate * decay)
        matrix.add_(update, alpha=-rate * max(1.0, rows / cols) ** 0.5)


def make_optimizers(
    model: nn.Module, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """One optimizer for the matrices inside the layers, one for all the rest.

    `dtype` is that of the matrix products inside Muon; the weights keep theirs.
    """
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
    inside = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in inside]
    adam = torch.optim.AdamW(rest, lr=VECTOR_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    return [Muon(matrices, MATRIX_LEARNING_RATE, dtype=dtype), adam]


def scale_learning_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to `factor` times the rate that it was made with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor


def warm_then_linear(progress: float, warm: float = 0.03, hold: float = 0.35) -> float:
    """Learning-rate factor at `progress` in [0, 1]: rise until `warm`, hold, then fall to zero."""
    if progress < warm:
        return max(progress, 1e-3) / warm
    return min(1.0, max(0.0, (1.0 - progress) / (1.0 - hold)))
