"""The settings of an encoder's training, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

from intrinsic.errors import ConfigError
from intrinsic.training.lora.checks import check_number, check_whole, option
from intrinsic.training.lora.plan import AdapterPlan


@dataclass(frozen=True, slots=True)
class EmbeddingPlan(AdapterPlan):
    """How an adapter of an encoder is trained.

    A step learns `batch_pairs` pairs, each against the texts of all others in it; no two of them
    share a text or a label. `temperature` divides the cosines. Prefixes are written before queries
    and before what they are compared with, as the encoder will be asked later; labelled texts are
    queries on both sides. `targets` left out are all matrices that a vector depends on.
    """

    learning_rate: float = 1e-3
    batch_pairs: int = 64
    temperature: float = 0.05
    query_prefix: str = ""
    passage_prefix: str = ""

    def __post_init__(self) -> None:
        AdapterPlan.__post_init__(self)
        check_whole(self, "batch_pairs", 2)
        check_number(self, "temperature", 0.0, open_below=True)
        for name in ("query_prefix", "passage_prefix"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{option(name)} is {getattr(self, name)!r}; it must be a text")
