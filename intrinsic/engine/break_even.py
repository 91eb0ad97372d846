"""After how many tokens a merge has paid for itself, measured on the layers of this machine."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from intrinsic.engine.active import Held
from intrinsic.engine.exact_sum import Terms, write_sum
from intrinsic.engine.ordinary import full_precision, ordinary
from intrinsic.engine.sidecar import SideCar
from intrinsic.engine.target import Target

_SAMPLE = 28
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class BreakEven:
    """What writing a mixture into the weights and back takes, and what it saves per token."""

    merge_ms: float
    saved_ms: float

    @property
    def tokens(self) -> float:
        """Tokens, decoded one by one, after which merging would have been the cheaper way."""
        return self.merge_ms / self.saved_ms if self.saved_ms > 0 else float("inf")


def measure(layers: Sequence[tuple[SideCar, Terms]], held: Held) -> BreakEven:
    """Time side-cars of some of the layers, and a merge into scratch memory; nothing is changed.

    `held` is the mixture of `layers`. The side-car's cost is that of one token, median of five.
    """
    if not layers:
        return BreakEven(0.0, 0.0)
    sample = layers[:: max(1, len(layers) // _SAMPLE)]
    with ordinary(), full_precision():
        saved = statistics.median(_side_car_ms(sample, held) for _ in range(_ROUNDS))
        return BreakEven(_merge_ms(layers), saved * len(layers) / len(sample))


def _side_car_ms(layers: Sequence[tuple[SideCar, Terms]], held: Held) -> float:
    """What the side-cars add to the layers' own passes of one token."""
    spent = 0.0
    for sidecar, _ in layers:
        target = sidecar.target
        layer, x = target.layer, _one_token(target)
        bare = _ms(lambda layer=layer, x=x: layer(x), target)  # type: ignore[misc]
        with held.active():
            spent += _ms(lambda layer=layer, x=x: layer(x), target) - bare  # type: ignore[misc]
    return spent


def _merge_ms(layers: Sequence[tuple[SideCar, Terms]]) -> float:
    """What saving, writing and restoring all layers takes, from one layer of each shape."""
    alike: defaultdict[object, list[tuple[Target, Terms]]] = defaultdict(list)
    for sidecar, terms in layers:
        weight, ranks = sidecar.target.weight, tuple(factors.rank for factors, _ in terms)
        alike[weight.shape, weight.dtype, ranks].append((sidecar.target, terms))
    return sum(len(same) * _merge_one_ms(*same[0]) for same in alike.values())


def _merge_one_ms(target: Target, terms: Terms) -> float:
    W = target.weight.detach()
    scratch = torch.empty_like(W)

    def merge_and_restore() -> None:
        scratch.copy_(W)
        write_sum(scratch, W, terms, transposed=target.transposed)
        scratch.copy_(W)

    merge_and_restore()
    return statistics.median(_ms(merge_and_restore, target) for _ in range(3))


def _one_token(target: Target) -> torch.Tensor:
    weight = target.weight
    if target.is_embedding:
        return torch.zeros(1, 1, dtype=torch.long, device=weight.device)
    return torch.ones(1, 1, target.in_features, dtype=weight.dtype, device=weight.device)


def _ms(work: Callable[[], object], target: Target) -> float:
    device = target.weight.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) * 1e3
