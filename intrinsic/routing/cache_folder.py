"""Where this library keeps what it can make again, and files that appear there whole or not."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_cache_folder() -> Path | None:
    """Return `$XDG_CACHE_HOME/intrinsic`, or `~/.cache/intrinsic`; None without a home.

    An empty or relative `XDG_CACHE_HOME` does not count, as the XDG base directory
    specification has it. Nothing is created.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            return None
    return base / "intrinsic"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that other processes see either whole or not at all; raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
