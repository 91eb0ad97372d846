"""Other servers on the same registry: they share it, and each says so."""

from __future__ import annotations

import os
import re
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
        number = os.open(f"{registry}{LOCK_SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:  # a folder that cannot be written has no neighbours who write
        yield None
        return
    try:
        other: str | None = None
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # whoever is there holds a part of it
            other = _first_there(number)
        else:
            os.ftruncate(number, 0)
        with suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.write(number, f"process {os.getpid()} at {url}\n".encode())
        yield other
    finally:
        with suppress(OSError):
            os.close(number)


def _first_there(number: int) -> str:
    """The first of those that wrote their names and still run; others have left since."""
    for line in os.pread(number, 10_000, 0).decode(errors="replace").splitlines():
        if (found := _NAMED.fullmatch(line)) and _runs(int(found[1])):
            return line
    return "another process"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:  # it is another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


_NAMED = re.compile(r"process (\d+) at .*")
