"""Whether an adapter's files are still those that were read, without reading them."""

from __future__ import annotations

import os
from pathlib import Path

from intrinsic.lora.checkpoint import WEIGHTS_NAME
from intrinsic.lora.config import CONFIG_NAME

Stamp = tuple[tuple[int, ...] | None, ...]
"""Of config and weights: device, inode, size, and the times of the last write and change, in ns.

None is a file that is gone. The time of change is there since a program can set that of the last
write back, as copying with `--preserve` does.
"""

_GONE = (FileNotFoundError, NotADirectoryError)


def stamp_of(folder: str | Path) -> Stamp:
    """The stamp of the files in a folder as they are now."""
    return tuple(_stamp(os.path.join(folder, name)) for name in (CONFIG_NAME, WEIGHTS_NAME))


def same_files(now: Stamp, then: Stamp) -> bool:
    """Whether no file is another than it was; one that is gone is not another."""
    return all(new is None or new == old for new, old in zip(now, then, strict=True))


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except _GONE:
        return None
    except (OSError, ValueError):  # may not be looked at; reading will say why
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
