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
    return {
        "token": one.token,
        "logprob": _finite(one.logprob),
        "bytes": list(one.bytes),
        "top_logprobs": [
            {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode())}
            for text, _, logprob in one.top
        ],
    }


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
            "top_logprobs": [
                {text: _finite(logprob) for text, _, logprob in one.top} for one in tokens
            ],
            "text_offset": offsets,
        }


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST)
