"""SHA-256 of bytes that were read, found when somebody asks for it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence

from intrinsic.lora.safetensors_bytes import Bytes


class Digest:
    """The digest of some bytes, which are let go of once it is known. Thread-safe.

    `size` is how many bytes they are.
    """

    def __init__(self, parts: Sequence[bytes | Bytes]) -> None:
        self.size = sum(len(part) for part in parts)
        self._read: Callable[[], Sequence[bytes | Bytes]] = lambda: parts
        self._lock = threading.Lock()
        self._hex = ""

    @classmethod
    def later(cls, read: Callable[[], Sequence[bytes | Bytes]], size: int) -> Digest:
        """The digest of parts of `size` bytes in all, which are read when it is asked for."""
        made = cls(())
        made.size, made._read = size, read
        return made

    def hexdigest(self) -> str:
        """SHA-256 of the parts one after the other, in hex."""
        with self._lock:
            if not self._hex:
                found = hashlib.sha256()
                for part in self._read():
                    found.update(memoryview(part))  # type: ignore[arg-type]
                self._hex, self._read = found.hexdigest(), tuple
            return self._hex
