"""How much memory there is for this process."""

from __future__ import annotations

import os
from pathlib import Path

_SHARE, _MOST_BYTES, _UNKNOWN_BYTES = 4, 4 * 2**30, 4 * 2**30
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def default_host_bytes() -> int:
    """A quarter of the machine's memory, or of the container's, and at most 4 GiB."""
    return min(min(_installed_bytes(), _container_bytes()) // _SHARE, _MOST_BYTES)


def _installed_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return _UNKNOWN_BYTES


def _container_bytes() -> int:
    try:
        return int(_CGROUP_LIMIT.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or 'max'
        return _SHARE * _MOST_BYTES
