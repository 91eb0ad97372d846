"""The adapters on an encoder: read when they are asked for, read again when their files changed.

Used by one thread at a time.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from intrinsic.embedding.item import Place
from intrinsic.embedding.layer_names import as_encoder_names
from intrinsic.engine import LoraEngine
from intrinsic.errors import AdapterError
from intrinsic.lora import read_checkpoint
from intrinsic.lora.file_stamp import Stamp, same_files, stamp_of
from intrinsic.mixture import Mixture

_LOG = logging.getLogger("intrinsic.embedding")


@dataclass(slots=True)
class _Loaded:
    of: Place
    id: str
    digest: str
    stamp: Stamp
    refused: Stamp | None = None


class AdapterShelf:
    """At most `max_loaded` adapters on an engine, beside those that are `kept`; the least recently
    used goes first, once its successor is on.

    An adapter's id on the engine holds the digest of its files, so that other files are another
    adapter for whoever remembers results.
    """

    def __init__(self, engine: LoraEngine, *, max_loaded: int, kept: Collection[str] = ()) -> None:
        self._engine = engine
        self._max_loaded = max_loaded
        self._kept = frozenset(kept)
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of what is on the encoder, least recently used first."""
        return tuple(self._loaded)

    def id_of(self, name: str) -> str | None:
        """What the engine calls an adapter on the encoder: its name with its files' digest."""
        held = self._loaded.get(name)
        return None if held is None else held.id

    def bring(
        self, wanted: Mixture, places: Mapping[str, Place], *, beside: Collection[str] = ()
    ) -> Mixture:
        """Have a mixture's adapters on the encoder, and name them as the engine does.

        `places` is where their files lie. Those `beside` stay as well. Raises what reading and
        loading raise; then the encoder has what it had.
        """
        keep = {*beside, *wanted.adapters}
        return Mixture.of((self._bring(n, places[n], keep), w) for n, w in wanted.entries)

    def _bring(self, name: str, place: Place, keep: Collection[str]) -> str:
        stamp = stamp_of(place.path)
        held = self._loaded.get(name)
        if held is None or held.of != place:
            return self._load(name, place, stamp, keep).id
        self._loaded.move_to_end(name)
        if same_files(stamp, held.stamp) or stamp == held.refused:
            return held.id
        try:
            return self._load(name, place, stamp, keep).id
        except AdapterError as error:
            held.refused = stamp
            _LOG.warning("adapter %s changed and is served as it was before: %s", place.path, error)
            return held.id

    def _load(self, name: str, place: Place, stamp: Stamp, keep: Collection[str]) -> _Loaded:
        began = time.perf_counter()
        held = self._loaded.get(name)
        checkpoint = read_checkpoint(place.path)
        digest = checkpoint.digest
        if held is not None and (held.digest, held.of.scaling) == (digest, place.scaling):
            held.of, held.stamp = place, stamp
            return held
        made = _Loaded(place, f"{name}#{digest[:16]}x{place.scaling.hex()}", digest, stamp)
        fitted = as_encoder_names(checkpoint, self._engine.model)
        self._engine.load(fitted, made.id, scaling=place.scaling)
        if held is not None:
            self._engine.unload(held.id)
        self._loaded[name] = made
        self._loaded.move_to_end(name)
        self._evict({*keep, name})
        took_ms = 1e3 * (time.perf_counter() - began)
        verb = "loaded" if held is None else "loaded again, since its files changed,"
        _LOG.info("adapter %s %s in %.1f ms, digest %s", place.path, verb, took_ms, digest[:16])
        return made

    def _evict(self, keep: Collection[str]) -> None:
        """Take off what is too much; only now, since what could not be loaded displaces nothing."""
        counted = [name for name in self._loaded if name not in self._kept]
        idle = [name for name in counted if name not in keep]
        for victim in idle[: max(0, len(counted) - self._max_loaded)]:
            self._engine.unload(self._loaded.pop(victim).id)
            _LOG.info("adapter %r left the encoder to make room", victim)
