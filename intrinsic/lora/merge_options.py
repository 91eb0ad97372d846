"""Parameters of merge methods: checked, and handed to those methods that take them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from intrinsic.errors import ConfigError, IntrinsicError, PluginError
from intrinsic.lora.wording import named

MergeMethod = Callable[[Sequence[torch.Tensor], Sequence[float]], torch.Tensor]
"""A function from deltas `ΔWᵢ = sᵢ Bᵢ Aᵢ`, each `(out, in)`, and weights wᵢ to one delta.

It may take `density`, `seed`, `rank` and `module` (the layer's name) as keywords with defaults.
"""

STORED_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}
"""What a merged adapter can be stored in, by name."""


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How to merge; None leaves a parameter at the method's default.

    `density` is the share of values that a pruning or dropping method keeps, `seed` fixes what
    is dropped, `rank` is the most that is stored per layer, `dtype` what it is stored in.
    Raises `ConfigError` for a value out of range.
    """

    density: float | None = None
    seed: int | None = None
    rank: int | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.density is not None:
            check_density(self.density)
        if self.rank is not None:
            check_rank(self.rank)
        if self.dtype not in STORED_DTYPES:
            raise ConfigError(
                f"dtype is {self.dtype!r}; it must be one of {', '.join(STORED_DTYPES)}"
            )


def check_density(density: float) -> None:
    """Raises `ConfigError` unless a share of values to keep is above 0 and at most 1."""
    if not (math.isfinite(density) and 0 < density <= 1):
        raise ConfigError(
            f"density is {density}; it is the share of values to keep, above 0 and at most 1"
        )


def check_rank(rank: int) -> None:
    """Raises `ConfigError` for a rank below 1."""
    if rank < 1:
        raise ConfigError(f"rank is {rank}; it must be 1 or more")


def bound(
    method: MergeMethod, options: MergeOptions, *, name: str = "", module: str = ""
) -> MergeMethod:
    """The method with its parameters filled in, for the layer of that name.

    Raises `ConfigError` for something that is no function, and for a density or a seed that the
    method called `name` does not take; every rank can be stored, so that one is never refused.
    """
    takes = _keywords(method, name)
    given = {
        key: value
        for key in ("density", "seed", "rank")
        if (value := getattr(options, key)) is not None
    }
    for key in ("density", "seed"):
        if key in given and key not in takes:
            known = ", ".join(sorted(takes - {"module"})) or "no parameter"
            raise ConfigError(f"merge method {name!r} takes no {key}; it takes {known}")
    filled = {**given, "module": module}
    return partial(method, **{key: value for key, value in filled.items() if key in takes})


def apply_checked(
    method: MergeMethod,
    deltas: Sequence[torch.Tensor],
    weights: Sequence[float],
    *,
    name: str,
    module: str,
) -> torch.Tensor:
    """What a method that is bound to the layer `module` makes of its deltas, as they are shaped.

    Raises `PluginError` where the method called `name` fails, or returns something other than
    a tensor of floats of the deltas' shape. What is out of memory says so itself.
    """
    try:
        made: object = method(deltas, weights)
    except (IntrinsicError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise PluginError(
            f"merge method {name!r} failed on {module}: {type(error).__name__}: {error}"
        ) from error
    wanted = deltas[0].shape
    if not isinstance(made, torch.Tensor):
        found = type(made).__name__
    elif made.shape != wanted or not made.is_floating_point() or made.layout != torch.strided:
        found = f"{made.dtype} of shape {named(tuple(made.shape))}"
    else:
        return made
    raise PluginError(
        f"merge method {name!r} returned {found} for {module}; it must return a dense tensor of "
        f"floats of shape {tuple(wanted)}"
    )


def name_of(method: MergeMethod) -> str:
    """What errors call a method that came without a name."""
    return getattr(method, "__name__", type(method).__name__)


def _keywords(method: MergeMethod, name: str) -> set[str]:
    """The keywords of ours that a method takes; one that cannot be inspected takes none."""
    if not callable(method):
        raise ConfigError(
            f"merge method {name!r} is {method!r}; it must be a function of deltas and weights"
        )
    try:
        parameters = inspect.signature(method).parameters
    except ValueError:
        return set()
    ours = {"density", "seed", "rank", "module"}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return ours if anything else ours & set(parameters)
