"""Factors of which most is shared: `ΔW = s B C A`, where only the core C is one adapter's own."""

from __future__ import annotations

import torch

from intrinsic.lora.checkpoint import Factors


class CoreFactors(Factors):
    """`A (r, in)` and `frame (out, r)`, which several adapters share, and a `core (r, r)` between.

    Adapters share factors whose `A` and `frame` are the same tensors in memory, or views of the
    same numbers; nobody may write to them. `B (out, r)` is `frame core`, multiplied out whenever it
    is asked for, and not kept.
    """

    __slots__ = ("core", "frame")

    core: torch.Tensor
    frame: torch.Tensor

    def __init__(
        self, A: torch.Tensor, frame: torch.Tensor, core: torch.Tensor, scale: float
    ) -> None:
        values = {"A": A, "frame": frame, "core": core, "scale": scale, "embedding": False}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        for name in ("bias", "magnitude", "peak"):
            object.__setattr__(self, name, None)

    @property
    def B(self) -> torch.Tensor:  # noqa: N802 - as the field is called
        """`frame core`, `(out, r)`, in the dtype of both."""
        return self.B_in(self.frame.dtype)

    def B_in(self, dtype: torch.dtype) -> torch.Tensor:  # noqa: N802
        """`frame core`, `(out, r)`, multiplied in `dtype`, also under `torch.autocast`."""
        with torch.autocast(self.frame.device.type, enabled=False):
            return self.frame.to(dtype) @ self.core.to(dtype)

    @property
    def stored(self) -> tuple[torch.Tensor, ...]:
        """What a layer keeps of them."""
        return self.A, self.frame, self.core

    @property
    def out_features(self) -> int:
        """The number of rows of B."""
        return int(self.frame.shape[0])

    @property
    def shared(self) -> tuple[object, ...]:
        """What is equal for factors that share A and frame, while both are alive."""
        return tuple((t.data_ptr(), t.dtype, t.shape, t.stride()) for t in (self.A, self.frame))

    def __reduce__(self) -> tuple[type[CoreFactors], tuple[object, ...]]:
        return CoreFactors, (self.A, self.frame, self.core, self.scale)

    def __repr__(self) -> str:
        return f"CoreFactors(r={self.rank}, scale={self.scale})"
