"""Log-probabilities of tokens as OpenAI writes them: that of chat, and that of completions."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from intrinsic.backends import TokenLogprob

_LEAST = -9999.0
"""What is told of a token that the model rules out; JSON has no infinity."""


def chat_tokens(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """`logprobs` of a chat choice."""
    return {"content": [_chat_token(one) for one in tokens], "refusal": None}


def _chat_token(one: TokenLogprob) -> dict[str, Any]:
    return {**_chat_alternative(one), "top_logprobs": [_chat_alternative(top) for top in one.top]}


def _chat_alternative(one: TokenLogprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": _finite(one.logprob), "bytes": list(one.bytes)}


class TextTokens:
    """`logprobs` of a completion's tokens as they come, told where in its text each begins."""

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def of(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Those of the tokens that follow; a part of a character begins where it does."""
        offsets = []
        for one in tokens:
            offsets.append(self._offset)
            self._offset += len(self._characters.decode(bytes(one.bytes)))
        return {
            "tokens": [one.token for one in tokens],
            "token_logprobs": [_finite(one.logprob) for one in tokens],
            "top_logprobs": [_by_text(one.top) for one in tokens],
            "text_offset": offsets,
        }


def _by_text(top: Sequence[TokenLogprob]) -> dict[str, float]:
    """Of tokens that look the same, as parts of characters do, the likeliest."""
    found: dict[str, float] = {}
    for one in top:
        found.setdefault(one.token, _finite(one.logprob))
    return found


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST)
