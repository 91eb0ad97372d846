"""A loaded encoder: texts to tokens, tokens to vectors.

tokens ─▶ transformer (the adapters' place) ─▶ pooling ─▶ further modules of the model
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from intrinsic.errors import EncoderError
from intrinsic.routing.pieces import cut
from intrinsic.routing.router import Vectors

_LOG = logging.getLogger("intrinsic.embedding")


class Piece(NamedTuple):
    """Tokens that are read at once; pooling leaves the first `instruction` of them out."""

    ids: Sequence[int]
    types: Sequence[int] | None = None
    instruction: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """What an encoder is made of: the transformer, its tokenizer, and the modules after it.

    `limit` is how many tokens it reads at once, 0 where there is no bound. `positions_from` is the
    position of a text's first token where the model must be told positions, or else None. `prompt`
    is what the model's own files write before a text unless told otherwise.
    """

    transformer: nn.Module
    tokenizer: Any
    after: tuple[nn.Module, ...]
    dimension: int
    limit: int
    positions_from: int | None
    pools_instruction: bool = True
    prompt: str = ""


class TextEncoder:
    """Texts as vectors; used by one thread at a time."""

    def __init__(self, parts: Parts, *, name: str, max_pieces: int) -> None:
        self.parts = parts
        self._name = name
        self._max_pieces = max_pieces
        self._tokenizer = parts.tokenizer
        self._pad = int(next(iter(_ids(parts.tokenizer, "pad", "eos", "unk")), 0))
        self._left = parts.tokenizer.padding_side == "left"
        self._specials = int(parts.tokenizer.num_special_tokens_to_add())
        self._typed = "token_type_ids" in parts.tokenizer.model_input_names
        self._device = next(parts.transformer.parameters()).device

    def pieces(self, texts: Sequence[tuple[str, str]]) -> list[list[Piece]]:
        """The pieces in which each text, given with its prefix, is read; one where it fits.

        Raises `EncoderError` where a prefix leaves no room for the text.
        """
        whole = self._tokens([prefix + text for prefix, text in texts])
        limit = self.parts.limit
        return [
            [self._piece(prefix, *tokens)]
            if limit < 1 or len(tokens[0]) <= limit
            else self._pieces_of(prefix, text)
            for (prefix, text), tokens in zip(texts, whole, strict=True)
        ]

    def vectors(self, pieces: Sequence[Piece]) -> Vectors:
        """One vector per piece, `(n, dimension)` float32, as the model's last module gives it."""
        with torch.inference_mode():
            ids, mask, pooled = (torch.from_numpy(a).to(self._device) for a in self._padded(pieces))
            told = {"input_ids": ids, "attention_mask": mask, **self._told(pieces, mask)}
            hidden = self.parts.transformer(**told, return_dict=True).last_hidden_state
            features = {"token_embeddings": hidden, "attention_mask": pooled, "input_ids": ids}
            for module in self.parts.after:
                features = module(features)
            found = features["sentence_embedding"]
            vectors: Vectors = found.to(dtype=torch.float32, device="cpu").numpy()
            return vectors

    def _tokens(self, texts: list[str], **settings: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
        found = self._tokenizer(texts, return_attention_mask=False, verbose=False, **settings)
        types = found["token_type_ids"] if self._typed and "token_type_ids" in found else None
        return list(zip(found["input_ids"], types or [None] * len(texts), strict=True))

    def _piece(self, prefix: str, ids: Sequence[int], types: Sequence[int] | None) -> Piece:
        instruction = 0 if self.parts.pools_instruction else self._length_of(prefix, ends=False)
        # What has no tokens at all is read as padding: no attention is defined over nothing.
        return Piece(ids or [self._pad], types if types and any(types) else None, instruction)

    def _pieces_of(self, prefix: str, text: str) -> list[Piece]:
        room = self.parts.limit - self._length_of(prefix, ends=True)
        if room < 1:
            raise EncoderError(
                f"the instruction {prefix[:60]!r} leaves no room for a text in the "
                f"{self.parts.limit} tokens that {self._name!r} reads; shorten it, or raise "
                "max_length"
            )
        parts = [text]
        if self._tokenizer.is_fast:
            spans = self._tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )["offset_mapping"]
            parts = cut(text, spans, room, self._max_pieces)
        else:
            _LOG.warning("a long text is cut off: the tokenizer of %r is a slow one", self._name)
        found = self._tokens(
            [prefix + part for part in parts], truncation=True, max_length=self.parts.limit
        )
        return [self._piece(prefix, *tokens) for tokens in found]

    def _length_of(self, prefix: str, *, ends: bool) -> int:
        """How many tokens stand before the text; where it `ends`, those after it too."""
        plain = len(self._tokenizer(prefix, add_special_tokens=False)["input_ids"]) if prefix else 0
        if ends:
            return plain + self._specials
        whole = self._tokenizer(prefix)["input_ids"] if prefix else []
        ends_in = set(self._tokenizer.all_special_ids)
        return len(whole) - (1 if whole and whole[-1] in ends_in else 0)

    def _padded(self, pieces: Sequence[Piece]) -> tuple[np.ndarray[Any, Any], ...]:
        """Ids, the mask of tokens, and the mask of those that are pooled: `(n, width)` each."""
        width = max(len(piece.ids) for piece in pieces)
        ids = np.full((len(pieces), width), self._pad, np.int64)
        mask = np.zeros_like(ids)
        pooled = np.zeros_like(ids)
        for row, piece in enumerate(pieces):
            start = width - len(piece.ids) if self._left else 0
            stop = start + len(piece.ids)
            ids[row, start:stop] = piece.ids
            mask[row, start:stop] = 1
            pooled[row, start + piece.instruction : stop] = 1
        return ids, mask, pooled

    def _told(self, pieces: Sequence[Piece], mask: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """What some models are told beside ids and mask."""
        told: dict[str, torch.Tensor] = {}
        first = self.parts.positions_from
        if first is not None and self._left and len({len(piece.ids) for piece in pieces}) > 1:
            told["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0) + first
        if any(piece.types is not None for piece in pieces):
            types = torch.zeros_like(mask)
            for row, piece in enumerate(pieces):
                if piece.types is not None:
                    given = torch.tensor(piece.types, device=mask.device)
                    types[row, mask[row].bool()] = given
            told["token_type_ids"] = types
        return told


def _ids(tokenizer: Any, *names: str) -> list[int]:  # noqa: ANN401
    found = (getattr(tokenizer, f"{name}_token_id", None) for name in names)
    return [given for given in found if given is not None]
