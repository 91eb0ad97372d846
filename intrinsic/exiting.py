"""The end of the process waits for threads that are in native code.

A daemon thread that comes back from torch when the interpreter is gone is ended by force, in the
middle of C++, and that aborts the process with whatever answer it had.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 10.0
"""A thread that takes longer is left behind, so that the process does end."""

_changed = threading.Condition()
_working = 0


@contextmanager
def exit_waits() -> Iterator[None]:
    """While a thread is in this block the process does not end, for at most `LONGEST_S`."""
    global _working
    with _changed:
        _working += 1
    try:
        yield
    finally:
        with _changed:
            _working -= 1
            _changed.notify_all()


def _wait() -> None:
    with _changed:
        _changed.wait_for(lambda: not _working, LONGEST_S)


def _forget() -> None:
    """In a forked process, where those threads are not."""
    global _changed, _working
    _changed, _working = threading.Condition(), 0


atexit.register(_wait)
os.register_at_fork(after_in_child=_forget)
