"""The settings of routers that ask a language model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from intrinsic.errors import ConfigError
from intrinsic.routing.chat_endpoint import ChatEndpoint

_TEMPERATURES = {"cards": 3.0, "names": 1.0}


@dataclass(frozen=True, slots=True)
class LLMOptions:
    """What `llm` and `cascade` ask, and when; raises `ConfigError` for values out of range.

    The model is asked about the `max_candidates` nearest adapters: how well each card's description
    goes with the query (`ask="cards"`), or which name it would answer, given the list of cards with
    `max_examples` examples each (`ask="names"`, for models that follow instructions). Query and
    cards take at most `max_prompt_chars`. `temperature` divides the calibrated log-likelihoods:
    more is less sure; None is 3 for cards and 1 for names. What `cached_priors` answers need for
    their priors, and `cached_answers` judgements, are kept. An `endpoint` is asked instead of the
    loaded model. `cascade` asks where the best confidence lies in [`low`, `high`], waits
    `deadline_s`, and after an overrun asks no more for `retry_s`.
    """

    ask: Literal["cards", "names"] = "cards"
    max_candidates: int = 8
    max_examples: int = 2
    max_prompt_chars: int = 1_000
    temperature: float | None = None
    cached_priors: int = 4_096
    cached_answers: int = 256
    endpoint: ChatEndpoint | None = None
    low: float = 0.2
    high: float = 0.8
    deadline_s: float = 5.0
    retry_s: float = 30.0

    def __post_init__(self) -> None:
        least = {"max_candidates": 1, "max_examples": 0, "max_prompt_chars": 100}
        for name in (*least, "cached_priors", "cached_answers"):
            value, floor = getattr(self, name), least.get(name, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < floor:
                raise ConfigError(f"{name} is {value!r}; it must be an integer, at least {floor}")
        if self.ask not in _TEMPERATURES:
            raise ConfigError(f"ask is {self.ask!r}; valid: {', '.join(_TEMPERATURES)}")
        chosen = self.softmax_temperature
        if not (math.isfinite(chosen) and chosen > 0.0):
            raise ConfigError(f"temperature is {chosen}; it must be a finite number above 0")
        if self.endpoint is not None and not isinstance(self.endpoint, ChatEndpoint):
            raise ConfigError(
                f"endpoint is of type {type(self.endpoint).__name__}; it must be a ChatEndpoint"
            )
        check_band(self.low, self.high, self.deadline_s, self.retry_s)

    @property
    def softmax_temperature(self) -> float:
        """The temperature in force."""
        return _TEMPERATURES[self.ask] if self.temperature is None else self.temperature


def check_band(low: float, high: float, deadline_s: float, retry_s: float) -> None:
    """Raise `ConfigError` unless `0 <= low <= high <= 1` and the times can be waited for."""
    if not 0.0 <= low <= high <= 1.0:
        raise ConfigError(f"the band is [{low}, {high}]; it must hold 0 <= low <= high <= 1")
    if not deadline_s > 0.0:
        raise ConfigError(f"deadline_s is {deadline_s}; it must be above 0")
    if not retry_s >= 0.0:
        raise ConfigError(f"retry_s is {retry_s}; it must be at least 0")
