"""A folder on its way into the registry's own: locked by who brings it, swept when that one died.

    .incoming-ID/        being copied
    ID/.uncommitted      whole, its row is being written
    ID/                  there is a row

The lock is that of the system on the folder itself, so it goes along with a rename, and nobody who
was killed still holds it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from intrinsic.errors import RegistryError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and so nothing is swept
    fcntl = None  # type: ignore[assignment]

_PREFIX = ".incoming-"
_MARK = ".uncommitted"


class Incoming:
    """One such folder; `claim` or `try_claim` comes first, `settle` or `release` last."""

    def __init__(self, root: Path, version_id: str) -> None:
        self.version_id = version_id
        self.final = root / version_id
        self.incoming = root / f"{_PREFIX}{version_id}"
        self._handle: int | None = None

    @classmethod
    def unfinished(cls, root: Path) -> list[Incoming]:
        """All in `root` that are not settled, claimed or not."""
        found = []
        for path in sorted(root.iterdir()) if root.is_dir() else []:
            if path.name.startswith(_PREFIX):
                found.append(cls(root, path.name.removeprefix(_PREFIX)))
            elif (path / _MARK).exists():
                found.append(cls(root, path.name))
        return found

    def claim(self) -> None:
        """Make the folder and lock it."""
        self.incoming.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self.incoming.mkdir(exist_ok=True)
            # A sweeper may take it in between: then another one is made.
            with suppress(FileNotFoundError):
                self._lock(self.incoming, wait=True)
                if self._is_at(self.incoming):
                    return
            self.release()

    def try_claim(self) -> bool:
        """Lock what is there of it; False where somebody works on it, or where nothing locks."""
        for path in (self.incoming, self.final):
            with suppress(FileNotFoundError):
                if self._lock(path, wait=False) and self._is_at(path):
                    return True
            self.release()
        return False

    def fill(self, source: Path, needed: Sequence[str], optional: Sequence[str]) -> None:
        """Copy files into it, through to the disk; raise `OSError` where one cannot be."""
        for name in (*needed, *optional):
            if name in needed or (source / name).is_file():
                shutil.copyfile(source / name, self.incoming / name)
                _flush(self.incoming / name)
        (self.incoming / _MARK).touch()
        _flush(self.incoming)

    def move(self) -> None:
        """Give it its final name, marked as not committed."""
        os.rename(self.incoming, self.final)
        _flush(self.final.parent)

    def settle(self, *, committed: bool) -> None:
        """Make it an ordinary folder if its row was committed, else remove it; release it."""
        try:
            if committed:
                (self.final / _MARK).unlink(missing_ok=True)
            elif (self.final / _MARK).exists():  # which must not go before the files
                os.rename(self.final, self.incoming)
            shutil.rmtree(self.incoming, ignore_errors=True)
        except OSError as error:
            raise RegistryError(
                f"{self.final} cannot be put in order: {error.strerror or error}; "
                "check who may write to the folder above it"
            ) from error
        finally:
            self.release()

    def release(self) -> None:
        """Give the lock back and leave everything as it is."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _lock(self, path: Path, *, wait: bool) -> bool:
        if fcntl is None:
            return False
        self._handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:  # held by somebody, or a file system without locks
            return False
        return True

    def _is_at(self, path: Path) -> bool:
        """Whether what was opened is still what lies there."""
        if self._handle is None:
            return True
        return os.path.samestat(os.fstat(self._handle), path.stat())


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
