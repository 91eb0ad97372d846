"""How a text is decoded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from intrinsic.errors import ConfigError

MAX_LOGPROBS = 20
OF_A_CALL = "of a call"
"""Metadata of a field that belongs to one call, and is no setting."""

_COLDEST = 1e-4


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How to decode. Temperature 0 is greedy; `seed` fixes what is drawn otherwise.

    `stop` are strings that end the text and are not part of it. A `repetition_penalty` of None is
    the model's own. `frequency_penalty` f and `presence_penalty` p take `count * f + (count > 0) *
    p` from the logit of a token that was generated `count` times (OpenAI's definition); the prompt
    does not count. `min_p` leaves out tokens less likely than so many times the likeliest.
    `logit_bias` is added to the logits of token ids. With `logprobs` each token is told with its
    probability and that many alternatives, 0 included; None tells nothing. Raises `ConfigError`.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    repetition_penalty: float | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(
        default_factory=dict, hash=False, metadata={OF_A_CALL: True}
    )
    logprobs: int | None = field(default=None, metadata={OF_A_CALL: True})

    def __post_init__(self) -> None:
        penalty, seed, logprobs = self.repetition_penalty, self.seed, self.logprobs
        limits = {
            "max_new_tokens": (_is_int(self.max_new_tokens, 1), "an integer, 1 or more"),
            "temperature": (
                _is_number(self.temperature)
                and (self.temperature == 0.0 or self.temperature >= _COLDEST),
                f"0 (greedy), or a number of {_COLDEST} or more",
            ),
            "top_p": (
                _is_number(self.top_p) and 0.0 < self.top_p <= 1.0,
                "a number above 0 and at most 1",
            ),
            "top_k": (_is_int(self.top_k, 0), "an integer, 0 (off) or more"),
            "min_p": (_is_within(self.min_p, 0.0, 1.0), "a number from 0 (off) to 1"),
            "seed": (
                seed is None or (_is_int(seed, 0) and seed < 2**63),
                "an integer from 0 to 2**63 - 1, or None",
            ),
            "repetition_penalty": (
                penalty is None or (_is_number(penalty) and penalty > 0.0),
                "a number above 0, or None for the model's own",
            ),
            "stop": (
                isinstance(self.stop, Sequence)
                and not isinstance(self.stop, str)
                and all(isinstance(text, str) and text for text in self.stop),
                "a sequence of strings that are not empty",
            ),
            "frequency_penalty": (
                _is_within(self.frequency_penalty, -2.0, 2.0),
                "a number from -2 to 2, 0 is off",
            ),
            "presence_penalty": (
                _is_within(self.presence_penalty, -2.0, 2.0),
                "a number from -2 to 2, 0 is off",
            ),
            "logit_bias": (
                isinstance(self.logit_bias, Mapping)
                and all(
                    _is_int(token, 0) and _is_within(bias, -100.0, 100.0)
                    for token, bias in self.logit_bias.items()
                ),
                "numbers from -100 to 100 by token id",
            ),
            "logprobs": (
                logprobs is None or (_is_int(logprobs, 0) and logprobs <= MAX_LOGPROBS),
                f"an integer from 0 to {MAX_LOGPROBS}, or None for none",
            ),
        }
        for name, (valid, words) in limits.items():
            if not valid:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {words}")


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _is_within(value: object, least: float, most: float) -> bool:
    return _is_number(value) and least <= value <= most  # type: ignore[operator]


GREEDY = GenerationOptions()
