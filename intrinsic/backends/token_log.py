"""The log-probabilities of the tokens that a request was given, and which text they belong to."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from transformers import LogitsProcessor

from intrinsic.backends.generation import TokenLogprob
from intrinsic.backends.token_texts import TokenTexts


class TokenLog(LogitsProcessor):  # type: ignore[misc]
    """First of a request's processors: reads the raw logits, and changes nothing.

    Tokens are given out once their text was. Several that make one character go together.
    """

    def __init__(self, tokenizer: Any, top: int) -> None:  # noqa: ANN401
        self._texts = TokenTexts(tokenizer)
        self._top = top
        self._row = torch.empty(0)
        self._unread: list[TokenLogprob] = []
        self._held: deque[tuple[int, int, TokenLogprob]] = deque()
        self._decoded = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._row = scores[0].log_softmax(-1)
        return scores

    def push(self, token: int) -> None:
        """Take the token that was chosen of the logits read last; a special one has no text."""
        if token in self._texts.unread:
            return
        row = self._row
        best = row.topk(min(self._top, row.shape[-1]))
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        alternatives = tuple(self._told(one, logprob) for one, logprob in top)
        self._unread.append(self._told(token, float(row[token]), alternatives))

    def _told(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        texts = self._texts
        return TokenLogprob(texts.text_of(token), token, logprob, tuple(texts.bytes_of(token)), top)

    def take(self, decoded: int, released: int, *, last: bool = False) -> tuple[TokenLogprob, ...]:
        """The tokens of the text that was released since: characters decoded and released so far.

        With `last`, of those in which the text ends as well; the others never come.
        """
        if decoded > self._decoded:
            self._held += [(self._decoded, decoded, one) for one in self._unread]
            self._unread.clear()
            self._decoded = decoded
        taken: list[TokenLogprob] = []
        while self._held and (
            self._held[0][1] <= released or (last and self._held[0][0] < released)
        ):
            taken.append(self._held.popleft()[2])
        return tuple(taken)
