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
from torch import nn
from transformers.pytorch_utils import Conv1D

from intrinsic.engine.active import Active, Activity
from intrinsic.engine.bank import FactorBank
from intrinsic.engine.ordinary import full_precision
from intrinsic.engine.plan import SharedPlan, plan_rows, plan_shared
from intrinsic.engine.target import Target
from intrinsic.errors import MixtureError
from intrinsic.mixture import Mixture

ROW_BY_ROW_TOKENS = 16
"""From so many tokens a row on, each row's own adapters cost less than everybody's stack."""


_MAKE_NEW = (nn.Linear.forward, nn.Embedding.forward, Conv1D.forward)
"""What these return is a tensor of its own, which may be changed in place."""


class SideCar:
    """LoRA beside one layer."""

    def __init__(self, target: Target, activity: Activity) -> None:
        self.target = target
        self._activity = activity
        weight = target.weight
        self.bank = FactorBank(
            target.in_features, target.out_features, dtype=weight.dtype, device=weight.device
        )
        self._in, self._out = target.in_features, target.out_features
        self._dtype = weight.dtype
        self._embeds = target.is_embedding
        self._is_expert = ".experts." in target.name
        self._is_plain = not (self._embeds or self._is_expert)
        self._attached = False
        self._makes_new = False
        self._own_forward: Callable[..., torch.Tensor] | None = None
        self._base_forward: Callable[..., torch.Tensor] = target.layer.forward

    def attach(self) -> None:
        """Shadow the layer's forward; doing it twice is doing it once."""
        if not self._attached:
            layer = self.target.layer
            self._own_forward = vars(layer).get("forward")
            self._base_forward = layer.forward
            self._makes_new = self._own_forward is None and type(layer).forward in _MAKE_NEW
            layer.forward = self._forward
            self._attached = True

    def detach(self) -> None:
        """Give the layer back the forward that it had; a pass that is under way may still end.

        What somebody else has put around ours since stays, and calls it; it adds nothing then.
        """
        layer = self.target.layer
        if self._attached and vars(layer).get("forward") == self._forward:
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
        active = self._activity.get()
        if active is None:
            return y
        if active.over:
            raise MixtureError(
                f"{self.target.name} was called by a task that outlived its activation; "
                "activate the mixture inside the task"
            )
        if not isinstance(y, torch.Tensor):
            raise MixtureError(
                f"{self.target.name} returns {type(y).__name__}, not a tensor that LoRA could be "
                "added to; unload the adapters that change it"
            )
        x = args[0] if args else next(iter(kwargs.values()))
        if y.dtype == self._dtype and x.dtype == self._dtype:
            return self._beside(active, x, y)
        with full_precision():  # autocast leaves embeddings as they are, and our sums exact
            wide = self._beside(active, x if self._embeds else x.to(self._dtype), y.to(self._dtype))
        return wide if wide.dtype == y.dtype else wide.to(y.dtype)

    def _beside(self, active: Active, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The layer's output under the active mixtures, from its input and its own output."""
        if active.rows:
            return self._beside_rows(active, x, y)
        plan = active.plans.get(self, active)
        if plan is active:
            plan = active.plans[self] = self._plan(active, active.shared)
        if plan is None:
            return y
        out = self._own(y)
        self._add(plan, self._flat(x), out.view(-1, self._out))
        return out

    def _beside_rows(self, active: Active, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rows = len(active.rows)
        plan = active.plans.get(self, active)
        if plan is active and not self.bank.serves(active.adapters):
            plan = active.plans[self] = None
        if plan is None:
            return y
        if plan is not active and plan.is_own_alone and self._makes_new:
            own = plan.own
            if x.dim() == 3 and len(x) == rows and x.shape[1] < ROW_BY_ROW_TOKENS:
                # The shortest way, for tokens one by one.
                return y.baddbmm_(torch.bmm(x, own.At), own.B, alpha=own.weights)
        if self._is_plain and x.dim() == y.dim() == 3 and len(x) == rows:
            by_row, out = x, self._own(y)
            each = out
        else:
            by_row, out = self._by_row(x, rows), self._own(y)
            each = out.view(rows, -1, self._out)
        if by_row.shape[1] >= ROW_BY_ROW_TOKENS and self.bank.has_plain(active.adapters):
            self._each_row(active, by_row, each)
        else:
            self._stacked(active, by_row, each)
        return out

    def _own(self, y: torch.Tensor) -> torch.Tensor:
        """The layer's output to be added to: its own tensor where nobody else can hold it."""
        if self._makes_new and y.is_contiguous():
            return y
        return y.clone(memory_format=torch.contiguous_format)

    def _flat(self, x: torch.Tensor) -> torch.Tensor:
        """Shape: `(..., in)` to `(tokens, in)`; ids `(...)` to `(tokens,)`."""
        return x.reshape(-1) if self._embeds else x.reshape(-1, self._in)

    def _each_row(self, active: Active, x: torch.Tensor, out: torch.Tensor) -> None:
        """A mixture per row, row after row: each reads its own adapters only."""
        for mixture, span in active.spans:
            key = (self, mixture.id)
            plan = active.plans.get(key, active)
            if plan is active:
                plan = active.plans[key] = self._plan(active, mixture)
            if plan is not None:
                self._add(plan, self._flat(x[span]), out[span].view(-1, self._out))

    def _add(self, plan: SharedPlan, x: torch.Tensor, out: torch.Tensor) -> None:
        """Add what one mixture changes to the layer's output, in place.

        Shape: x `(tokens, in)`, out `(tokens, out)`.
        """
        if plan.gain is not None:
            out.addcmul_(self._product(out), plan.gain)
        if plan.bias is not None:
            out.add_(plan.bias)
        for run in plan.runs:
            hidden = self._down(x, run.At)  # (tokens, R)
            if run.core is not None:
                hidden = hidden @ run.core
            if isinstance(run.weights, float):
                out.addmm_(hidden, run.B, alpha=run.weights)
            else:
                out.addmm_(hidden.mul_(run.weights), run.B)

    def _stacked(self, active: Active, x: torch.Tensor, out: torch.Tensor) -> None:
        """A mixture per row, all at once: products with the adapters that any row uses.

        Shape: x `(rows, tokens, in)`, out `(rows, tokens, out)`.
        """
        plan = active.plans.get(self, active)
        if plan is active:
            self._check_current()
            plan = active.plans[self] = plan_rows(self.bank, active, stacked=self._embeds)
        if plan is None:
            return
        if plan.gain is not None:
            out.addcmul_(self._product(out), plan.gain)
        if plan.bias is not None:
            out.add_(plan.bias)
        if (own := plan.own) is not None:
            hidden = torch.bmm(x, own.At)  # (rows, tokens, r)
            if isinstance(own.weights, float):
                out.baddbmm_(hidden, own.B, alpha=own.weights)
            else:
                out.baddbmm_(hidden.mul_(own.weights), own.B)
        if not (plan.runs or plan.framed):
            return
        flat, sums = self._flat(x), out.view(-1, self._out)
        for framed in plan.framed:
            hidden = self._down(flat, framed.At)
            hidden = hidden.view(*out.shape[:2], hidden.shape[-1])
            if framed.unused is not None:
                hidden.masked_fill_(framed.unused, 0.0)
            if framed.cores is None:
                out.baddbmm_(hidden, framed.B, alpha=framed.weight)
            else:
                hidden = torch.bmm(hidden, framed.cores).flatten(0, 1)
                sums.addmm_(hidden, framed.B, alpha=framed.weight)
        for run in plan.runs:
            hidden = self._down(flat, run.At)  # (rows * tokens, R)
            each = hidden.view(*out.shape[:2], hidden.shape[-1])
            # A row that does not use an adapter must not see its overflow: inf * 0 is NaN.
            each.mul_(run.weights[:, None]).masked_fill_(run.unused[:, None], 0.0)
            sums.addmm_(hidden, run.B)

    def _down(self, x: torch.Tensor, At: torch.Tensor) -> torch.Tensor:
        """`A x` as a tensor of its own; x `(tokens, in)` or ids, to `(tokens, R)`."""
        return self.target.look_up(x, At) if self._embeds else torch.mm(x, At)

    def _plan(self, active: Active, mixture: Mixture) -> SharedPlan | None:
        self._check_current()
        return plan_shared(self.bank, active, mixture)

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
        if self._is_expert or first % rows or not (flat or first == rows):
            raise MixtureError(
                f"{target.name} got {first} inputs for {rows} mixtures and cannot tell which input "
                "belongs to which; run these requests one mixture at a time"
            )
        return x.reshape(rows, -1, *width)
