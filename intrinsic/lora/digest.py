"""SHA-256 of bytes that were read, found when somebody asks for it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence

from intrinsic.lora.safetensors_bytes import Bytes


class Digest:
    """The digest of some bytes, which are let go of once it is known. Thread-safe.

    `size` is how many bytes they are.
    """

    def __init__(self, parts: Sequence[bytes | Bytes]) -> None:
        self.size = sum(len(part) for part in parts)
        self._parts: Sequence[bytes | Bytes] = parts
        self._lock = threading.Lock()
        self._hex = ""

    def hexdigest(self) -> str:
        """SHA-256 of the parts one after the other, in hex."""
        with self._lock:
            if not self._hex:
                found = hashlib.sha256()
                for part in self._parts:
                    found.update(memoryview(part))  # type: ignore[arg-type]
                self._hex, self._parts = found.hexdigest(), ()
            return self._hex
