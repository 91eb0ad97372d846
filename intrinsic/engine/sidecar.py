"""The side-car of one layer: `y = W x + Σ wᵢ sᵢ Bᵢ (Aᵢ x)` beside untouched weights.

            ┌────────── W (out, in), never written ──────────┐
      x ────┤                                                + ──── y
            └── A (R, in) ── × w s per row ── B (R, out) ────┘

DoRA also multiplies `W x` by a gain per output, and a trained bias is added. The layer's `forward`
is shadowed on the instance; its class, its parameters and the module tree stay as they are, and
detaching deletes the shadow. Without an active mixture the layer's own result is returned as it
is, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from intrinsic.engine.active import ACTIVE, Active
from intrinsic.engine.bank import FactorBank
from intrinsic.engine.ordinary import full_precision
from intrinsic.engine.plan import RowsPlan, SharedPlan, plan_rows, plan_shared
from intrinsic.engine.target import Target
from intrinsic.errors import MixtureError
from intrinsic.mixture import Mixture

ROW_BY_ROW_TOKENS = 16
"""From so many tokens a row on, each row's own adapters cost less than everybody's stack."""


class SideCar:
    """LoRA beside one layer."""

    def __init__(self, target: Target) -> None:
        self.target = target
        weight = target.weight
        self.bank = FactorBank(
            target.in_features, target.out_features, dtype=weight.dtype, device=weight.device
        )
        self._attached = False
        self._own_forward: Callable[..., torch.Tensor] | None = None
        self._base_forward: Callable[..., torch.Tensor] = target.layer.forward

    def attach(self) -> None:
        """Shadow the layer's forward; doing it twice is doing it once."""
        if not self._attached:
            layer = self.target.layer
            self._own_forward = vars(layer).get("forward")
            self._base_forward = layer.forward
            layer.forward = self._forward
            self._attached = True

    def detach(self) -> None:
        """Give the layer back the forward that it had; a pass that is under way may still end."""
        if self._attached:
            layer = self.target.layer
            if self._own_forward is None:
                del layer.forward
            else:
                layer.forward = self._own_forward
            self._attached = False

    def outdated(self) -> str | None:
        """Say how the layer was cast or moved since its adapters were loaded, or None."""
        # Not target.weight, which looks closer and takes longer.
        weight: torch.Tensor = self.target.layer.weight  # type: ignore[assignment]
        A = self.bank.A
        if weight.dtype == A.dtype and weight.device == A.device:
            return None
        return (
            f"{self.target.name} is {weight.dtype} on {weight.device} now, but its adapters were "
            f"loaded for {A.dtype} on {A.device}; unload all adapters and load them again after "
            "casting or moving the model"
        )

    def _forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        y = self._base_forward(*args, **kwargs)
        active = ACTIVE.get()
        if active is None:
            return y
        if active.over:
            raise MixtureError(
                f"{self.target.name} was called by a task that outlived its activation; "
                "activate the mixture inside the task"
            )
        x = args[0] if args else kwargs["input"]
        if self.target.is_embedding:  # which autocast leaves as it is
            with full_precision():
                out = self._beside(active, x, y)
        else:
            out = self._beside(active, x, y)
        return out if out.dtype == y.dtype else out.to(y.dtype)

    def _beside(self, active: Active, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The layer's output under the active mixtures, from its input and its own output."""
        if not active.rows:
            return self._shared(active, active.shared, x, y)
        x = self._by_row(x, len(active.rows))
        by_row = y.reshape(*x.shape[:2], self.target.out_features)  # (rows, tokens, out)
        serve = self._each_row if x.shape[1] >= ROW_BY_ROW_TOKENS else self._stacked
        return serve(active, x, by_row).view(y.shape)

    def _shared(
        self, active: Active, mixture: Mixture, x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """One mixture for all of x: products with its adapters only, whatever else is loaded."""
        plan = self._plan(active, mixture)
        if not plan.terms:
            return y
        target = self.target
        flat = x.reshape(-1) if target.is_embedding else x.reshape(-1, target.in_features)
        out = y.reshape(-1, target.out_features)  # (tokens, out)
        if plan.gain is not None:
            out = out + plan.gain * self._product(out)
        if plan.bias is not None:
            out = out + plan.bias
        for A, B, weight in plan.terms:
            out = torch.addmm(out, target.down(flat, A), B, alpha=weight)
        return out.view(y.shape)

    def _each_row(self, active: Active, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """A mixture per row, row after row: each reads its own adapters only."""
        parts = [self._shared(active, mixture, x[span], y[span]) for mixture, span in active.spans]
        return torch.cat(parts)

    def _stacked(self, active: Active, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """A mixture per row, all at once: products with the adapters that any row uses."""
        plan = active.plans.get(self, active)
        if plan is active:
            self._check_current()
            plan = active.plans[self] = plan_rows(self.bank, active)
        return y if plan is None else self._apply_rows(plan, x, y)

    def _apply_rows(self, plan: RowsPlan, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        out = y
        if plan.gain is not None:
            out = out + plan.gain[:, None] * self._product(y)
        if plan.bias is not None:
            out = out + plan.bias[:, None]
        hidden = self.target.down(x, plan.A) * plan.weights[:, None]  # (rows, tokens, R)
        # A row that does not use an adapter must not see its overflow either: inf * 0 is NaN.
        hidden = hidden.masked_fill(plan.unused[:, None], 0.0)
        flat = out.reshape(-1, out.shape[-1])
        return torch.addmm(flat, hidden.view(-1, hidden.shape[-1]), plan.B).view(y.shape)

    def _plan(self, active: Active, mixture: Mixture) -> SharedPlan:
        plan: SharedPlan | None = active.plans.get((self, mixture.id))
        if plan is None:
            self._check_current()
            plan = active.plans[self, mixture.id] = plan_shared(self.bank, mixture)
        return plan

    def _check_current(self) -> None:
        if outdated := self.outdated():
            raise MixtureError(outdated)

    def _product(self, y: torch.Tensor) -> torch.Tensor:
        """`W x`, from the base layer's output."""
        bias = self.target.bias
        return y if bias is None else y - bias

    def _by_row(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """Split x by the rows of the batch.

        Shape: `(rows, ..., in)` or `(rows * tokens, in)` to `(rows, tokens, in)`; ids without `in`.
        """
        target = self.target
        width = () if target.is_embedding else (target.in_features,)
        first, flat = x.shape[0], not target.is_embedding and x.dim() == 2
        if ".experts." in target.name or first % rows or not (flat or first == rows):
            raise MixtureError(
                f"{target.name} got {first} inputs for {rows} mixtures and cannot tell which input "
                "belongs to which; run these requests one mixture at a time"
            )
        return x.reshape(rows, -1, *width)
