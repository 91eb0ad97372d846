"""Generated adapters by the content of the embedding: the same query is generated once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from intrinsic.errors import ConfigError
from intrinsic.hypernet.generated import Generated
from intrinsic.hypernet.generator import WeightGenerator, digest_of
from intrinsic.hypernet.network import Embedding


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Entries and bytes as they are now, and what happened so far."""

    entries: int
    bytes_used: int
    max_bytes: int
    hits: int
    misses: int
    evictions: int


class GeneratedCache:
    """Keeps the generated adapters last used, at most `max_bytes` of them. Thread-safe.

    The key is the network's fingerprint with the SHA-256 of the embedding's float32 bytes. What
    alone is larger than `max_bytes` is not kept; 0 keeps none. Raises `ConfigError` below 0.
    """

    def __init__(self, max_bytes: int = 64 * 2**20) -> None:
        if not isinstance(max_bytes, int) or max_bytes < 0:
            raise ConfigError(f"max_bytes is {max_bytes!r}; it must be an integer, 0 or more")
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, str], Generated] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes_used = self._hits = self._misses = self._evictions = 0

    def get(self, network: str, digest: str) -> Generated | None:
        """What is kept under a network's fingerprint and an embedding's digest."""
        with self._lock:
            found = self._kept.get((network, digest))
            if found is None:
                self._misses += 1
            else:
                self._hits += 1
                self._kept.move_to_end((network, digest))
            return found

    def put(self, generated: Generated) -> None:
        """Keep an adapter; those not used for longest go where there is no room."""
        if generated.bytes_used > self._max_bytes:
            return
        key = generated.network, generated.digest
        with self._lock:
            former = self._kept.pop(key, None)
            self._bytes_used -= former.bytes_used if former else 0
            while self._bytes_used + generated.bytes_used > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes_used -= oldest.bytes_used
                self._evictions += 1
            self._kept[key] = generated
            self._bytes_used += generated.bytes_used

    def generate(self, generator: WeightGenerator, embedding: Embedding) -> Generated:
        """The adapter for one embedding `(d,)`, kept or new; raises as `WeightGenerator` does."""
        checked = generator.network.checked(embedding)
        found = self.get(generator.fingerprint, digest_of(checked))
        if found is None:
            found = generator.generate(checked)
            self.put(found)
        return found

    def clear(self) -> None:
        """Forget all adapters; what was counted stays."""
        with self._lock:
            self._kept.clear()
            self._bytes_used = 0

    def statistics(self) -> CacheStatistics:
        """Counters as they are now."""
        with self._lock:
            return CacheStatistics(
                entries=len(self._kept),
                bytes_used=self._bytes_used,
                max_bytes=self._max_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
            )
