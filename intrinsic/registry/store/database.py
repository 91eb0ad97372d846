"""The registry's database: opened, migrated, and spoken to in worker threads alone.

Every call is one transaction in one thread: it is committed or rolled back before its caller goes
on, cancelled or not. The engine is SQLAlchemy's plain one, because its async one is for asyncio
alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
from sqlalchemy import Connection, Engine

from intrinsic.errors import ConfigError, RegistryError
from intrinsic.registry.store.engine import WRITES, make_engine
from intrinsic.registry.store.failures import in_words
from intrinsic.registry.store.location import Location
from intrinsic.registry.store.migrating import bring_up_to_date, is_current
from intrinsic.worker import run_to_end

_T = TypeVar("_T")


class Database:
    """A SQLite file (a path or `sqlite:///...`) or a PostgreSQL database (`postgresql://...`).

    An async context manager: entering makes what is missing and applies the migrations. `threads`
    calls run at once; of those that write, one. Raises `ConfigError` for a place that is not
    valid, and on entering `RegistryError` where it cannot be opened.
    """

    def __init__(self, where: str | Path, *, threads: int = 4) -> None:
        if threads < 1:
            raise ConfigError(f"threads is {threads}; it must be 1 or more")
        self._location = Location.of(where)
        self._threads = threads
        self._engine: Engine | None = None

    @property
    def shown(self) -> str:
        """Where it is, without the password."""
        return self._location.shown

    @property
    def file(self) -> Path | None:
        """SQLite's file; None for a server."""
        return self._location.file

    def __repr__(self) -> str:
        """Where it is, without the password."""
        return f"Database({self.shown!r})"

    async def __aenter__(self) -> Self:
        if self._engine is not None:
            raise RegistryError(f"the registry {self.shown} is open already; open it once")
        self._limiter = anyio.CapacityLimiter(self._threads)
        self._writing = anyio.Lock()
        try:
            await run_to_end(self._open, limiter=self._limiter)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await run_to_end(self._close, limiter=self._limiter)

    async def read(self, function: Callable[[Connection], _T]) -> _T:
        """Call `function` in a thread with a connection whose reads all see one moment.

        Raises what it raises; the database's own errors as `RegistryError`.
        """
        return await run_to_end(partial(self._call, function, writes=False), limiter=self._limiter)

    async def write(self, function: Callable[[Connection], _T]) -> _T:
        """Call `function` in a thread in a transaction that writes.

        It is committed when the function returns and rolled back when it raises. Writers wait for
        one another, also for those of other processes. Raises as `read` does.
        """
        async with self._writing:
            return await run_to_end(
                partial(self._call, function, writes=True), limiter=self._limiter
            )

    def _call(self, function: Callable[[Connection], _T], *, writes: bool) -> _T:
        engine = self._engine
        if engine is None:
            raise RegistryError(
                f"the registry {self.shown} is not open; use it inside 'async with Database(...)'"
            )
        options: dict[str, Any] = {WRITES: writes}
        if engine.dialect.name == "postgresql" and not writes:
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with (
            in_words(self._location),
            engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            return function(connection)

    def _open(self) -> None:
        if (file := self.file) is not None:
            _make_parent(file)
        with in_words(self._location):
            self._engine = make_engine(self._location)
        if not self._call(is_current, writes=False):
            self._call(partial(bring_up_to_date, shown=self.shown), writes=True)

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()


def _make_parent(file: Path) -> None:
    if file.is_dir():
        raise RegistryError(f"{file} is a folder; name a file in it as the registry")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryError(
            f"the registry's folder {file.parent} cannot be made: {error.strerror or error}; "
            "name another file with --registry"
        ) from error
