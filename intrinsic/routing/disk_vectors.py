"""Vectors of card texts on disk, by what made them and the text's digest: one SQLite file.

It is a cache: what is not sound is not there, and where the disk fails it is off.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from intrinsic.routing.router import Vectors
from intrinsic.routing.vector_cache import Vector

_T = TypeVar("_T")

_LOG = logging.getLogger("intrinsic.routing")
_INHERITED: list[sqlite3.Connection | None] = []
_DAY_S = 86_400
_AT_ONCE = 500
_CHECK_BYTES = 8
_TABLE = """
CREATE TABLE IF NOT EXISTS vectors (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, day INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_day ON vectors (day);
"""


class DiskVectors:
    """At most `capacity` vectors in `folder/vectors-1.sqlite3`, the longest unused out first.

    Texts are kept as digests only. Safe between threads and processes, and when killed (a
    write-ahead log). A damaged row is not found, a damaged file is begun anew; a folder that
    cannot be written switches the cache off, with one line in the log. Never raises for the disk.
    """

    def __init__(
        self, folder: Path, capacity: int, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = folder / "vectors-1.sqlite3"
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._off = False

    def __del__(self) -> None:
        self._close()

    def get(self, identity: str, texts: Sequence[str]) -> list[Vector | None]:
        """Return the vector of each text under `identity`, None where there is none."""
        keys = [_key(identity, text) for text in texts]
        rows = self._guarded(lambda connection: self._read(connection, keys)) or {}
        return [_unpack(key, rows.get(key)) for key in keys]

    def put(self, identity: str, texts: Sequence[str], vectors: Vectors) -> None:
        """Keep one vector per text."""
        day = self._today()
        keys = [_key(identity, text) for text in texts]
        rows = [(key, _pack(key, vector), day) for key, vector in zip(keys, vectors, strict=True)]
        self._guarded(lambda connection: self._write(connection, rows))

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            self._close()

    def _read(self, connection: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        stale: list[tuple[int, bytes]] = []
        today = self._today()
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, value, day FROM vectors WHERE key IN ({marks})"
            for key, value, day in connection.execute(query, some):
                found[key] = value
                if day != today:
                    stale.append((today, key))
        if stale:
            with connection:
                connection.executemany("UPDATE vectors SET day = ? WHERE key = ?", stale)
        return found

    def _write(self, connection: sqlite3.Connection, rows: list[tuple[bytes, bytes, int]]) -> None:
        with connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
            (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
            if count > self._capacity:
                connection.execute(
                    "DELETE FROM vectors WHERE rowid IN "
                    "(SELECT rowid FROM vectors ORDER BY day, rowid LIMIT ?)",
                    (count - self._capacity,),
                )

    def _guarded(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        with self._lock:
            for begun_anew in (False, True):
                if self._off:
                    return None
                try:
                    return work(self._opened())
                except sqlite3.OperationalError as error:
                    self._close()
                    if "locked" in str(error) or "busy" in str(error):
                        return None  # another process writes for long; this once without
                    self._switch_off(error)
                except (sqlite3.DatabaseError, OSError) as error:
                    self._close()
                    if begun_anew or isinstance(error, OSError):
                        self._switch_off(error)
                    else:
                        self._remove()
        return None

    def _opened(self) -> sqlite3.Connection:
        if self._process != os.getpid():  # a connection must not be used, nor closed, after a fork
            _INHERITED.append(self._connection)
            self._connection, self._process = None, os.getpid()
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=5.0, check_same_thread=False)
            self._connection = connection
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLE)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _remove(self) -> None:
        _LOG.warning("the vectors kept in %s are damaged; they are made again", self.path)
        for ending in ("-wal", "-shm", ""):
            try:
                Path(f"{self.path}{ending}").unlink(missing_ok=True)
            except OSError as error:
                self._switch_off(error)

    def _switch_off(self, error: Exception) -> None:
        if not self._off:
            _LOG.warning("vectors are not kept on disk: %s: %s", self.path, error)
        self._off = True

    def _today(self) -> int:
        return int(self._clock() // _DAY_S)


def _key(identity: str, text: str) -> bytes:
    digest = hashlib.blake2b(identity.encode("utf-8"), digest_size=20)
    digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    return digest.digest()


def _pack(key: bytes, vector: Vector) -> bytes:
    content = np.ascontiguousarray(vector, "<f4").tobytes()
    return _check(key, content) + content


def _unpack(key: bytes, value: object) -> Vector | None:
    if not isinstance(value, bytes) or value[:_CHECK_BYTES] != _check(key, value[_CHECK_BYTES:]):
        return None
    return np.frombuffer(value, "<f4", offset=_CHECK_BYTES)


def _check(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECK_BYTES, key=key).digest()
