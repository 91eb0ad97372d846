"""Other servers on the same registry: they share it, and each says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_SUFFIX = ".serving"


@contextmanager
def told_of_others(registry: Path | None, url: str) -> Iterator[str | None]:
    """While the block runs, other servers on that registry's file can see that this one is there.

    Yields where another one is that was there first. The system takes the mark back from a
    process that ends in any way. Nothing is known of other machines, and nothing without files.
    """
    try:
        import fcntl
    except ImportError:  # no such thing on this system
        yield None
        return
    if registry is None:
        yield None
        return
    try:
        number = os.open(f"{registry}{LOCK_SUFFIX}", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:  # a folder that cannot be written has no neighbours who write
        yield None
        return
    try:
        other: str | None = None
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(number, 1000, 0).decode(errors="replace").strip() or "another process"
        else:
            os.ftruncate(number, 0)
            os.pwrite(number, f"process {os.getpid()} at {url}\n".encode(), 0)
        yield other
    finally:
        with suppress(OSError):
            os.close(number)
