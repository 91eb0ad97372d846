"""`square`: `heads` for square matrices of one size, in the words of the plain constructor."""

from __future__ import annotations

from collections.abc import Sequence

from intrinsic.errors import ConfigError
from intrinsic.hypernet.architecture import at_least_one, register_architecture
from intrinsic.hypernet.architectures.heads import Heads
from intrinsic.hypernet.targets import TargetShape


@register_architecture("square")
class Square(Heads):
    """`heads` whose trunk is `bottleneck_dim` wide, with the same remedies.

    Raises `ConfigError` for targets that are not square and of one size; `heads` takes any.
    """

    def __init__(
        self,
        targets: Sequence[TargetShape],
        embed_dim: int,
        rank: int,
        *,
        bottleneck_dim: int = 256,
    ) -> None:
        size = targets[0].in_features
        for target in targets:
            if (target.in_features, target.out_features) != (size, size):
                raise ConfigError(
                    f"{target.name} maps {target.in_features} to {target.out_features}, but "
                    f"'square' needs {size} to {size} everywhere; choose 'heads' or 'core'"
                )
        hidden = at_least_one("bottleneck_dim", bottleneck_dim)
        super().__init__(targets, embed_dim, rank, hidden_dim=hidden)
