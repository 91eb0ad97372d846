"""The second tier: checked checkpoints in host memory, least recently used first out.

    disk ──read, check──▶ host memory ──copy──▶ device
                          up to `max_bytes`

An adapter that leaves the device is loaded again from here, without a file being read. One that was
made in memory has no file at all: it is offered, and stays until it is forgotten.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from intrinsic.backends.backend import HostMemory
from intrinsic.backends.page_locked import page_locked
from intrinsic.backends.system_memory import default_host_bytes
from intrinsic.errors import CapacityError, ConfigError
from intrinsic.lora import LoraCheckpoint, read_checkpoint
from intrinsic.lora.file_stamp import Stamp, same_files, stamp_of


@dataclass(slots=True)
class _Kept:
    """A checkpoint, as the files were when it was read; `ahead` until it is first used."""

    checkpoint: LoraCheckpoint
    stamp: Stamp
    ahead: bool


class HostTier:
    """Reads checkpoints and keeps those last used, at most `max_bytes` of tensors.

    Thread-safe; files that several threads want are read once. Files that were replaced since are
    read anew; those that were deleted are served as they were. With `pin` the tensors lie in
    page-locked memory, from which CUDA copies faster. `max_bytes` None is `default_host_bytes()`.
    """

    def __init__(self, max_bytes: int | None = None, *, pin: bool = False) -> None:
        self._pin = pin
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._offered: dict[str, LoraCheckpoint] = {}
        self._under_way: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self._hits = self._misses = self._evictions = 0
        self._bytes_used = 0
        self._max_bytes = 0
        self.limit(max_bytes)

    def limit(self, max_bytes: int | None) -> None:
        """Change `max_bytes`; what is too much goes at once, less what was offered.

        Raises `ConfigError` below 0.
        """
        chosen = default_host_bytes() if max_bytes is None else max_bytes
        if chosen < 0:
            raise ConfigError(f"max_bytes is {chosen}; it must be 0 (off) or more")
        with self._lock:
            self._max_bytes = chosen
            self._make_room(0)

    def read(self, folder: str | Path, *, ahead: bool = False) -> LoraCheckpoint:
        """Return the checkpoint in `folder`, from memory if it is there; see `read_checkpoint`.

        `ahead` is for a prefetch: what is there already is then no hit. What was offered under
        that name is served as it is.
        """
        offered = self._offered.get(str(folder))
        if offered is not None:
            return offered
        path = _absolute(folder)
        while True:
            stamp = stamp_of(path)
            with self._lock:
                found = self._find(path, stamp, ahead=ahead)
                if found is not None:
                    return found
                other = self._under_way.get(path)
                if other is None:
                    self._misses += 1
                    done = self._under_way[path] = threading.Event()
                    break
            other.wait()  # for a thread that reads a file and then sets it, come what may
        try:
            return self._read(folder, path, stamp, done, ahead=ahead)
        finally:
            with self._lock:
                if self._under_way.get(path) is done:
                    del self._under_way[path]
            done.set()

    def offer(self, name: str, checkpoint: LoraCheckpoint) -> None:
        """Hold a checkpoint that has no folder, under a name, until it is forgotten.

        Copies of files give way to it. Raises `CapacityError` where `max_bytes` has no room for it
        beside what else was offered; what was offered under that name before stays then.
        """
        with self._lock:
            others = sum(one.bytes_used for key, one in self._offered.items() if key != name)
            if others + checkpoint.bytes_used > self._max_bytes:
                raise CapacityError(
                    f"no room in host memory for {name}: it takes {checkpoint.bytes_used} bytes, "
                    f"others without files {others}, of {self._max_bytes}; raise max_host_bytes"
                )
            former = self._offered.pop(name, None)
            self._bytes_used -= former.bytes_used if former is not None else 0
            self._make_room(checkpoint.bytes_used)
            self._offered[name] = checkpoint
            self._bytes_used += checkpoint.bytes_used

    def forget(self, folder: str | Path) -> None:
        """Let a checkpoint go; one that is being read right now is not kept either.

        One that is not there is no error. No eviction is counted.
        """
        path = _absolute(folder)
        with self._lock:
            offered = self._offered.pop(str(folder), None)
            if offered is not None:
                self._bytes_used -= offered.bytes_used
            self._under_way.pop(path, None)
            if path in self._kept:
                self._drop(path)

    def statistics(self) -> HostMemory:
        """Bytes, entries and counters as they are now, from the least recently used on.

        What was offered comes last, by the name that it was offered under.
        """
        with self._lock:
            return HostMemory(
                bytes_used=self._bytes_used,
                max_bytes=self._max_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                bytes_by_path={
                    **{path: kept.checkpoint.bytes_used for path, kept in self._kept.items()},
                    **{name: offered.bytes_used for name, offered in self._offered.items()},
                },
            )

    def _find(self, path: str, stamp: Stamp, *, ahead: bool) -> LoraCheckpoint | None:
        kept = self._kept.get(path)
        if kept is None:
            return None
        if not same_files(stamp, kept.stamp):
            self._drop(path)
            return None
        self._kept.move_to_end(path)
        if not ahead:
            self._hits += not kept.ahead
            kept.ahead = False
        return kept.checkpoint

    def _read(
        self, folder: str | Path, path: str, stamp: Stamp, done: threading.Event, *, ahead: bool
    ) -> LoraCheckpoint:
        checkpoint = read_checkpoint(folder)
        if checkpoint.bytes_used > self._max_bytes:
            return checkpoint
        if self._pin:
            checkpoint = page_locked(checkpoint)
        if stamp_of(path) == stamp:  # else they changed while they were read
            with self._lock:
                if self._under_way.get(path) is done:  # else it was forgotten meanwhile
                    self._keep(path, _Kept(checkpoint, stamp, ahead))
        return checkpoint

    def _keep(self, path: str, kept: _Kept) -> None:
        size = kept.checkpoint.bytes_used
        if self._make_room(size):
            self._kept[path] = kept
            self._bytes_used += size

    def _make_room(self, size: int) -> bool:
        """Evict until `size` more bytes fit, unless they cannot for what was offered."""
        offered = sum(checkpoint.bytes_used for checkpoint in self._offered.values())
        can = offered + size <= self._max_bytes
        while self._kept and (can or not size) and self._bytes_used + size > self._max_bytes:
            self._drop(next(iter(self._kept)))
            self._evictions += 1
        return can

    def _drop(self, path: str) -> None:
        self._bytes_used -= self._kept.pop(path).checkpoint.bytes_used


def _absolute(folder: str | Path) -> str:
    try:
        return str(Path(folder).expanduser().absolute())
    except RuntimeError:  # an unknown user's home, which reading will refuse in words
        return str(folder)
