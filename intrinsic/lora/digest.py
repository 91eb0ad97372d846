"""SHA-256 of bytes; that of many is found in a thread while the caller goes on."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future

_FEW_BYTES = 2**18
"""So many are hashed sooner than a thread starts."""


def hash_beside(parts: Sequence[bytes]) -> Future[str]:
    """Start hashing the parts, one after the other; the result is the digest in hex."""
    digest: Future[str] = Future()
    if sum(map(len, parts)) <= _FEW_BYTES:
        _hash(parts, digest)
    else:
        threading.Thread(target=_hash, args=(parts, digest), name="intrinsic-digest").start()
    return digest


def _hash(parts: Sequence[bytes], digest: Future[str]) -> None:
    try:
        found = hashlib.sha256()
        for part in parts:
            found.update(part)
        digest.set_result(found.hexdigest())
    except BaseException as error:
        digest.set_exception(error)
