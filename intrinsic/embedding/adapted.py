"""An encoder with adapters on it: a batch of texts, each under a mixture of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from intrinsic.embedding.encoder import Piece, TextEncoder
from intrinsic.embedding.item import DEFAULT, Item, Place
from intrinsic.embedding.memory import in_halves
from intrinsic.embedding.options import EmbeddingOptions
from intrinsic.embedding.packing import packed
from intrinsic.embedding.shelf import AdapterShelf
from intrinsic.engine import LoraEngine
from intrinsic.errors import AdapterError, EncoderError
from intrinsic.mixture import Mixture
from intrinsic.routing.pieces import means, unit_rows
from intrinsic.routing.query_batches import Answer
from intrinsic.routing.router import Vectors
from intrinsic.routing.vector_cache import VectorCache

_LOG = logging.getLogger("intrinsic.embedding")


class AdaptedEncoder:
    """Encodes items under their mixtures; `places` says where adapters' files lie.

    Each batch has as many texts as the budget of tokens allows, whatever their mixtures; where
    memory ends, it is done in halves and the budget shrinks.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        options: EmbeddingOptions,
        places: Mapping[str, Place],
        *,
        name: str,
    ) -> None:
        self.dimension = encoder.parts.dimension
        self.prompt = encoder.parts.prompt
        self._encoder = encoder
        self._options = options
        self._places = places
        self._name = name
        self._engine = LoraEngine(encoder.parts.transformer)
        self._shelf = AdapterShelf(
            self._engine, max_loaded=options.max_loaded, kept=frozenset({DEFAULT})
        )
        self._tokens = options.batch_tokens
        self._cache = VectorCache(options.cached_texts)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the adapters that are on the encoder, least recently used first."""
        return self._shelf.loaded

    @property
    def revision(self) -> str | None:
        """Which files the default adapter was read from; None without one."""
        return self._shelf.id_of(DEFAULT)

    def load(self, adapter: str) -> None:
        """Have an adapter on the encoder; one that is there, of these files, stays."""
        self._shelf.bring(Mixture.of({adapter: 1.0}), self._places)

    def encode(self, items: Sequence[Item]) -> list[Answer]:
        """A vector per item, or the error of its adapters."""
        answers: dict[int, Answer] = {}
        for group in self._groups(items):
            answers.update(self._encode_group(items, group))
        return [answers[at] for at in range(len(items))]

    def close(self) -> None:
        """Take the adapters off the encoder."""
        self._engine.close()

    def _groups(self, items: Sequence[Item]) -> Iterator[list[int]]:
        """Items whose adapters fit on the encoder at once; all of them, as a rule."""
        group: list[int] = []
        used: set[str] = set()
        for at in sorted(range(len(items)), key=lambda at: items[at].mixture.id):
            own = {*items[at].mixture.adapters} - {DEFAULT}
            if group and len(used | own) > self._options.max_loaded:
                yield group
                group, used = [], set()
            group.append(at)
            used |= own
        yield group

    def _encode_group(self, items: Sequence[Item], group: Sequence[int]) -> dict[int, Answer]:
        brought = self._brought({items[at].mixture for at in group})
        answers: dict[int, Answer] = {}
        sound: list[tuple[int, Mixture]] = []
        for at in group:
            mixture = brought[items[at].mixture]
            if isinstance(mixture, AdapterError):
                answers[at] = mixture
            else:
                sound.append((at, mixture))
        keys = [f"{mixture.id}\0{items[at].prefix}\0{items[at].text}" for at, mixture in sound]
        fresh: list[tuple[int, Mixture, str]] = []
        for (at, mixture), key, vector in zip(sound, keys, self._cache.get(keys), strict=True):
            if vector is None:
                fresh.append((at, mixture, key))
            else:
                answers[at] = vector
        if fresh:
            vectors = self._fresh([(items[at], mixture) for at, mixture, _ in fresh])
            self._cache.put([key for _, _, key in fresh], vectors)
            answers.update(zip((at for at, _, _ in fresh), vectors, strict=True))
        return answers

    def _brought(self, mixtures: set[Mixture]) -> dict[Mixture, Mixture | AdapterError]:
        """Each mixture as the engine names it, with its adapters on the encoder, or why not."""
        wanted = {name for mixture in mixtures for name in mixture.adapters}
        found: dict[Mixture, Mixture | AdapterError] = {}
        for mixture in mixtures:
            try:
                found[mixture] = self._shelf.bring(mixture, self._places, beside=wanted)
            except AdapterError as error:
                found[mixture] = error
        return found

    def _fresh(self, tasks: Sequence[tuple[Item, Mixture]]) -> Vectors:
        """One vector per item, in their order, whatever the batches."""
        pieces = self._encoder.pieces([(item.prefix, item.text) for item, _ in tasks])
        rows = [
            (piece, mixture)
            for of_text, (_, mixture) in zip(pieces, tasks, strict=True)
            for piece in of_text
        ]
        vectors = np.empty((len(rows), self.dimension), np.float32)
        lengths = [len(piece.ids) for piece, _ in rows]
        for batch in packed(lengths, rows=self._options.batch_size, tokens=self._tokens):
            batch.sort(key=lambda at: rows[at][1].id)  # rows of one mixture beside each other
            chosen = [rows[at] for at in batch]
            vectors[batch] = in_halves(self._pass, chosen, self._shrink)
        return self._whole(vectors, pieces)

    def _pass(self, rows: Sequence[tuple[Piece, Mixture]]) -> Vectors:
        pieces = [piece for piece, _ in rows]
        mixtures = [mixture for _, mixture in rows]
        with self._engine.activate(mixtures):
            return self._encoder.vectors(pieces)

    def _shrink(self, rows: Sequence[tuple[Piece, Mixture]]) -> None:
        taken = len(rows) * max(len(piece.ids) for piece, _ in rows)
        self._tokens = max(1, min(self._tokens, taken // 2))
        _LOG.warning(
            "no memory for %d texts at once on %s; batches have at most %d tokens from now on",
            len(rows),
            self._options.device,
            self._tokens,
        )

    def _whole(self, vectors: Vectors, pieces: Sequence[Sequence[Piece]]) -> Vectors:
        """One vector per text: the mean of its pieces', weighted by their tokens."""
        lengths = [[piece.ids for piece in of_text] for of_text in pieces]
        if self._options.normalize:
            return means(unit_rows(vectors, len(vectors), self._name), lengths)
        if not np.isfinite(vectors).all():
            raise EncoderError(f"encoder {self._name!r} gave values that are not finite")
        if len(vectors) == len(pieces):
            return vectors
        shares = [[len(ids) + 1.0 for ids in of_text] for of_text in lengths]
        firsts = np.cumsum([0, *map(len, pieces[:-1])])
        weighted = vectors * np.concatenate(shares).astype(np.float32)[:, None]
        sums: Vectors = np.add.reduceat(weighted, firsts, axis=0)
        sums /= np.asarray([[sum(share)] for share in shares], np.float32)
        return sums
