"""What a model answered: the whole text, and the pieces in which it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token with its log-probability, in nats.

    That is the model's own, of its raw logits: before temperature, penalties, biases and anything
    else that chooses among tokens. `token` is the token's text, with replacement characters where
    it is part of a character; `bytes` are those of its UTF-8 in any case. `top` are the likeliest
    tokens, best first, as many as were asked for, each without a `top` of its own.
    """

    token: str
    token_id: int
    logprob: float
    bytes: tuple[int, ...]
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is final, `tokens` chosen since the piece before, and, if asked for, `logprobs`.

    The log-probabilities are those of the tokens whose text this completes.
    """

    text: str
    tokens: int = 1
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """A generated text, how it ended, and what it took; the time is in milliseconds.

    `logprobs`, if asked for, are those of the tokens of the text: no end mark or other special
    token is among them, and nothing that lies in a stop string, though `tokens` counts them all.
    """

    text: str
    tokens: int
    prompt_tokens: int
    finish_reason: FinishReason
    generate_ms: float
    logprobs: tuple[TokenLogprob, ...] = ()
