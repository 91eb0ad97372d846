"""The check on one example: are the weights worth more than none?

It sees what similarity cannot: an operation that no training task used, in words that are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from intrinsic.backends import AnswerScore, Prompt
from intrinsic.errors import ConfigError, HypernetError
from intrinsic.mixture import BASE, Mixture

MARGIN = 0.05
"""By how many nats per token the loss must fall; below it lie differences that mean nothing."""
SHARE = 0.2
"""And by which share of the loss without: where that is far off, any weights change it a little."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and the answer that is right; neither is empty. Raises `ConfigError`."""

    prompt: Prompt
    response: str

    def __post_init__(self) -> None:
        if not self.prompt or not self.response:
            raise ConfigError("an example needs a prompt and a response that are not empty")


@dataclass(frozen=True, slots=True)
class ExampleCheck:
    """Losses on an example in nats per token of its answer, without and with the weights."""

    base_loss: float
    loss: float
    margin: float = MARGIN
    share: float = SHARE

    @property
    def needed(self) -> float:
        """By how much the loss must fall: `margin`, or `share` of what it is without."""
        return max(self.margin, self.share * self.base_loss)

    @property
    def passed(self) -> bool:
        """Whether the loss fell by more than is needed; never where one is NaN."""
        return self.loss < self.base_loss - self.needed

    @property
    def reason(self) -> str:
        """What was found, in words."""
        return (
            f"on the example the loss is {self.loss:.3f} with the generated weights and "
            f"{self.base_loss:.3f} without; it must fall by more than {self.needed:.3g}"
        )


class Scorer(Protocol):
    """A model backend, or what else scores answers as one does."""

    async def score(
        self, prompt: Prompt, answers: Sequence[str], *, mixture: Mixture = ...
    ) -> list[AnswerScore]:
        """Log-likelihoods of answers to a prompt under a mixture."""
        ...


async def check_on_backend(
    backend: Scorer,
    mixture: Mixture,
    example: Example,
    *,
    margin: float = MARGIN,
    share: float = SHARE,
) -> ExampleCheck:
    """Score an example under a mixture that is loaded, and under the bare model.

    Raises what the backend's `score` raises: `CapabilityError` where it cannot.
    """
    answers = [example.response]
    (bare,) = await backend.score(example.prompt, answers, mixture=BASE)
    (adapted,) = await backend.score(example.prompt, answers, mixture=mixture)
    return ExampleCheck(-bare.per_token, -adapted.per_token, margin, share)


def check_on_model(
    model: nn.Module,
    ids: torch.Tensor,
    labels: torch.Tensor,
    applied: Callable[[], AbstractContextManager[object]],
    *,
    margin: float = MARGIN,
    share: float = SHARE,
) -> ExampleCheck:
    """The same on a model of transformers, without an engine; `applied` enters the weights.

    Shape: ids and labels `(1, length)`; labels are the answer's ids and -100 elsewhere, and are
    shifted here. Raises `HypernetError` where there is no answer to judge.
    """
    if not (labels[:, 1:] != -100).any():
        raise HypernetError("the labels hold no answer; mark its tokens with their ids")
    base_loss = _loss(model, ids, labels)
    with applied():
        return ExampleCheck(base_loss, _loss(model, ids, labels), margin, share)


@torch.no_grad()
def _loss(model: nn.Module, ids: torch.Tensor, labels: torch.Tensor) -> float:
    logits = model(input_ids=ids).logits[:, :-1].float()
    return float(F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten()))
