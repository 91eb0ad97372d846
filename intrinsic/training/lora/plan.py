"""The settings of a training, checked before anything is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from intrinsic.errors import ConfigError
from intrinsic.training.lora.checks import check_number, check_whole, option

Dtype = Literal["auto", "fp32", "bf16"]
FileDtype = Literal["fp32", "fp16", "bf16"]
Device = Literal["auto", "cpu", "cuda"]

LONGEST = 1024
"""Tokens of a row at most, where nothing else is said and the model reads as many."""

MOST_STEPS_BETWEEN = 200
"""Without `every`, validation comes at least this often, and once an epoch."""


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """What the plans of all kinds of adapters share; raises `ConfigError` for what is not valid.

    `alpha` is twice the rank, `targets` all matrices but the output head, `max_length` what the
    model reads but at most 1,024, and `every` an epoch but at most 200 steps, where left out.
    `max_steps` ends it before all epochs are over; the learning rate is at zero there. `patience`
    is how many validations in a row may bring nothing better, 0 for any number. `bf16` multiplies
    in bfloat16; the adapter is trained in float32 always, and rounded to `save_dtype` before it is
    scored and written. `auto` is CUDA and bf16 where there are, else the CPU and fp32.
    """

    rank: int = 16
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    epochs: int = 3
    max_steps: int | None = None
    learning_rate: float = 2e-4
    max_length: int | None = None
    dropout: float = 0.0
    seed: int = 17
    validation_share: float = 0.1
    patience: int = 3
    every: int | None = None
    gradient_checkpointing: bool = False
    dtype: Dtype = "auto"
    device: Device = "auto"
    save_dtype: FileDtype = "fp32"

    def __post_init__(self) -> None:
        for name, least in (("rank", 1), ("epochs", 1), ("patience", 0)):
            check_whole(self, name, least)
        for name, least in (("max_steps", 1), ("max_length", 2), ("every", 1)):
            if getattr(self, name) is not None:
                check_whole(self, name, least)
        check_whole(self, "seed", 0, 2**32 - 1)
        if self.alpha is not None:
            check_number(self, "alpha", 0.0, open_below=True)
        check_number(self, "learning_rate", 0.0, open_below=True)
        check_number(self, "validation_share", 0.0, 1.0, open_below=True)
        check_number(self, "dropout", 0.0, 1.0)
        self._one_of("dtype", get_args(Dtype))
        self._one_of("device", get_args(Device))
        self._one_of("save_dtype", get_args(FileDtype))

    @property
    def scale(self) -> float:
        """The LoRA alpha."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"targets": list(self.targets)}

    def _one_of(self, name: str, known: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in known:
            raise ConfigError(f"{option(name)} is {value!r}; it must be one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class LoraPlan(AdapterPlan):
    """How an adapter of a causal model is trained.

    `batch_tokens` counts padding; one longer row is a batch of its own. `blank_share` of the rows
    to train on are asked with an empty prompt, the same in every epoch. `bf16` loads the base in
    bfloat16 too.
    """

    batch_tokens: int = 2048
    blank_share: float = 0.0

    def __post_init__(self) -> None:
        AdapterPlan.__post_init__(self)
        check_whole(self, "batch_tokens", 2)
        check_number(self, "blank_share", 0.0, 1.0)
