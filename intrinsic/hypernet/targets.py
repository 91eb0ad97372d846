"""The layers that weights are generated for: their names and shapes, without a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch import nn

from intrinsic.engine.target import Target
from intrinsic.errors import ConfigError
from intrinsic.training.lora.base import choose_targets, matrices_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


@dataclass(frozen=True, slots=True)
class TargetShape:
    """A layer by its full name in the model, and the map that it is, from `in` to `out`.

    `transposed` says that it stores its weight as `(in, out)`, as Conv1D does. Raises
    `ConfigError` for sizes below 1 and an empty name.
    """

    name: str
    in_features: int
    out_features: int
    transposed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError("a target has no name; give the layer's full name in the model")
        for side in ("in_features", "out_features"):
            size = getattr(self, side)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ConfigError(
                    f"{self.name}: {side} is {size!r}; it must be an integer, 1 or more"
                )

    @property
    def kind(self) -> str:
        """The last part of the name, as `q_proj`."""
        return self.name.rpartition(".")[2]

    @property
    def layer(self) -> int:
        """The first number in the name; 0 where there is none."""
        found = _NUMBER.search(self.name)
        return int(found[1]) if found else 0


def targets_of(model: nn.Module, modules: Sequence[str] = ()) -> tuple[TargetShape, ...]:
    """The model's matrices (`nn.Linear`, `Conv1D`) in its own order, but the output head.

    `modules` chooses some of them by their last names, or the ends of their full names. Raises
    `ConfigError` for one that no matrix has, `IncompatibleAdapterError` where there is none.
    """
    ends = choose_targets(cast("PreTrainedModel", model), modules)
    head = None if modules else getattr(model, "get_output_embeddings", lambda: None)()
    found = []
    for name in matrices_of(model):
        layer = model.get_submodule(name)
        if layer is not head and any(f".{name}".endswith(f".{end}") for end in ends):
            target = Target(name, layer)
            sizes = target.in_features, target.out_features
            found.append(TargetShape(name, *sizes, transposed=target.transposed))
    return tuple(found)
