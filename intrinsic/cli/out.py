"""Where a command may write what it makes, asked before it makes it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from intrinsic.errors import ConfigError


def check_file(out: Path, read: Path) -> None:
    """Raise `ConfigError` where `out` is not a file that can be written, or is the one read."""
    parent = out.parent
    try:
        if out.exists() and read.exists() and out.samefile(read):
            raise ConfigError(f"{out} is the file that is read; name another with --out")
        if out.is_dir():
            raise ConfigError(f"{out} is a folder; name a file with --out")
        if not parent.is_dir():
            raise ConfigError(f"{parent} is no folder; name a file in one that exists with --out")
        if out.exists():
            _probe_file(out)
        _probe(out.resolve().parent)
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be written: {error.strerror or error}; name another file with --out"
        ) from error


def check_folder(folder: Path, name: str, read: Path) -> None:
    """Raise `ConfigError` where file `name` cannot be written into `folder`; makes nothing."""
    try:
        above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not above.is_dir():
            what = "File exists" if above == folder else f"{above} is no folder"
            raise ConfigError(f"{folder} cannot be made: {what}; name another folder with --out")
        if above == folder:
            check_file(folder / name, read)
        else:
            _probe(above)
    except OSError as error:
        raise ConfigError(
            f"nothing can be written into {folder}: {error.strerror or error}; "
            "name another folder with --out"
        ) from error


def _probe_file(file: Path) -> None:
    if not file.is_file():
        raise OSError("it is no regular file")
    if not os.access(file, os.W_OK):
        raise PermissionError(13, "Permission denied")


def _probe(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass
