"""The catalog: every version of a team's adapters, in a database, and the live view of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from intrinsic.bus import MemoryBus
from intrinsic.card import AdapterCard
from intrinsic.errors import AdapterExistsError, CheckpointError, ConfigError, RegistryError
from intrinsic.registry.inspection import digest_of
from intrinsic.registry.live_view import LiveView
from intrinsic.registry.registering import Newcomer, examine
from intrinsic.registry.registry import AdapterRegistry
from intrinsic.registry.store.changes import Change, Mark
from intrinsic.registry.store.copies import Copies
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.entering import enter, enter_many
from intrinsic.registry.store.feedback import Feedback
from intrinsic.registry.store.listing import ListQuery, Page, list_versions
from intrinsic.registry.store.records import VersionRecord
from intrinsic.registry.store.usage import UsageLog
from intrinsic.registry.store.versions import Versions

logger = logging.getLogger("intrinsic.registry")


class AdapterCatalog:
    """Adapters that are registered, switched on and off, renamed and deleted; an async context.

    `where` is a SQLite file or a URL of PostgreSQL. `live` is what routing and the manager ask; it
    holds what is not deleted, and follows every change made here at once and changes of other
    processes on `catch_up` or `refresh` (see `follow` in `registry.following`). Each change is
    told to the observers of `bus` (`adapter.registered` and so on). Files that are copied lie in
    `files`, by default beside the SQLite file. All methods raise `RegistryError` where the
    database fails.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        live: AdapterRegistry | None = None,
        bus: MemoryBus | None = None,
        files: str | Path | None = None,
    ) -> None:
        self.database = Database(where)
        self.live = AdapterRegistry() if live is None else live
        self.usage = UsageLog(self.database)
        self.feedback = Feedback(self.database)
        self.versions = Versions(self.database)
        self._view = LiveView(self.live, bus)
        file = self.database.file
        root = Path(files) if files is not None else file and file.with_name(f"{file.name}.files")
        self._copies = None if root is None else Copies(self.database, root)
        self._changing = anyio.Lock()
        self._behind = False
        self._mark = Mark()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.database)
            await stack.enter_async_context(self.usage)
            await self._sweep()
            self._mark = await self.versions.mark()  # before, so that nothing falls in between
            await self._follow()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def register(
        self, newcomer: Newcomer, *, copy: bool = False, activate: bool | None = None
    ) -> VersionRecord:
        """Check an adapter's files and keep it as a new version.

        With `copy` its files are copied into the registry's own folder; otherwise they stay where
        they are. By default the first version of a name is active, and later ones are not. Raises
        `AdapterExistsError`, which names the next free version, `CheckpointError`,
        `UnsupportedAdapterError` or `ConfigError`; then nothing has changed.
        """
        record = await anyio.to_thread.run_sync(examine, newcomer)
        return await self.keep(record, copy=copy, activate=activate)

    async def keep(
        self, record: VersionRecord, *, copy: bool = False, activate: bool | None = None
    ) -> VersionRecord:
        """Keep a version that was examined, as `register` does.

        Raises `CheckpointError` where files that are to be copied have changed since then.
        """
        async with self._change():
            if copy:
                still = partial(_is_still, record)
                kept = await self._own_files.add(record, check=still, activate=activate)
            else:
                kept = await self.database.write(partial(enter, record=record, activate=activate))
            await self._follow([record.name])
        return kept

    async def register_all(
        self, records: Sequence[VersionRecord], *, activate: bool | None = None
    ) -> tuple[AdapterExistsError | None, ...]:
        """Keep many that were examined, in one transaction; say for each why it was refused.

        By default a version is active where it is the newest of a name that was not known; with
        `activate` the newest of every name is, or none.
        """
        async with self._change():
            add = partial(enter_many, records=records, activate=activate)
            refusals = await self.database.write(add)
            await self._follow({record.name for record in records})
        return refusals

    async def get(self, key: str) -> VersionRecord:
        """Return `name@version`, or of a name the active version, else the newest.

        Raises `AdapterNotFoundError`, which says so where it was deleted.
        """
        return await self.versions.get(key)

    async def list(self, query: ListQuery | None = None) -> Page:
        """Return a page of the versions, with which of them are on the device."""
        page = await list_versions(self.database, query)
        return replace(page, loaded=frozenset(self.live.loaded_adapters))

    async def history(self, key: str) -> tuple[Change, ...]:
        """Return what happened to `name@version`, or to all versions of a name, oldest first."""
        return await self.versions.history(key)

    async def activate(self, key: str, *, only: bool = True) -> VersionRecord:
        """Offer a version to routing from the next request on.

        Other versions of its name are switched off, unless `only` is false. Raises
        `AdapterNotFoundError`.
        """
        return await self._switch(key, True, only=only)

    async def deactivate(self, key: str) -> VersionRecord:
        """Offer a version to routing no more; those who hold it finish with it."""
        return await self._switch(key, False, only=False)

    async def rename(self, name: str, new_name: str) -> tuple[VersionRecord, ...]:
        """Give all versions of a name another one. Raises as `Versions.rename` does."""
        async with self._change():
            renamed = await self.versions.rename(name, new_name)
            await self._follow([name, new_name])
        return renamed

    async def delete(self, key: str) -> VersionRecord:
        """Make a version unusable for ever; its history, use and feedback stay.

        Files that the registry copied stay too, until they are removed by hand. Raises
        `AdapterNotFoundError`.
        """
        async with self._change():
            record = await self.versions.delete((await self.get(key)).id)
            await self._follow([record.name])
        return record

    async def update_card(self, key: str, card: AdapterCard) -> VersionRecord:
        """Replace the card of a version. Raises `ConfigError` for another name or version."""
        async with self._change():
            record = await self.versions.update_card((await self.get(key)).id, card)
            await self._follow([record.name])
        return record

    async def refresh(self) -> int:
        """Follow what other processes have changed; return how many versions that were."""
        async with self._change():
            return await self._follow()

    async def catch_up(self) -> int:
        """As `refresh`, but look only at what changed since; next to nothing where that is nothing.

        What somebody wrote into the database by hand, past the history, it does not see.
        """
        mark = await self.versions.mark()
        if mark == self._mark:
            return 0
        touched = await self.versions.changed_since(self._mark)
        names = None if touched is None else {*touched.values(), *self._view.names_of(touched)}
        async with self._change():
            count = await self._follow(names)
        self._mark = mark
        return count

    def id_of(self, key: str) -> str | None:
        """The id of a live version `name@version`, None where there is none."""
        return self._view.ids.get(key)

    def id_ever_of(self, key: str) -> str | None:
        """As `id_of`, and else the id of one that was called so, and is deleted or renamed now."""
        return self._view.ids.get(key) or self._view.former.get(key)

    @property
    def _own_files(self) -> Copies:
        if self._copies is None:
            raise ConfigError(
                f"the registry {self.database.shown} has no folder of its own for copies; "
                "name one with --files, or register without --copy"
            )
        return self._copies

    async def _sweep(self) -> None:
        if self._copies is None:
            return
        try:
            for left in await self._copies.sweep():
                logger.warning("removed what a registration that was killed left: %s", left)
        except (RegistryError, OSError) as error:
            logger.warning("what a registration that was killed left stays: %s", error)

    async def _switch(self, key: str, active: bool, *, only: bool) -> VersionRecord:
        async with self._change():
            record = await self.get(key)
            changed = await self.versions.set_active(record.id, active, only=only)
            await self._follow([record.name])
        return next((one for one in changed if one.id == record.id), replace(record, active=active))

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        """One change after the other; one that was cut off may have been written by then."""
        async with self._changing:
            try:
                if self._behind:
                    await self._follow()
                yield
            except (RegistryError, anyio.get_cancelled_exc_class()):
                self._behind = True
                with anyio.CancelScope(shield=True):
                    await self._try_to_follow()
                raise

    async def _try_to_follow(self) -> None:
        try:
            await self._follow()
        except RegistryError as error:
            logger.warning("the live registry follows at the next change or refresh: %s", error)

    async def _follow(self, names: Collection[str] | None = None) -> int:
        """Bring the live view of these names, or of all, to what the database says."""
        there = {one.id: one for one in await self.versions.all_live(names)}
        missing = self._view.missing(there, names)
        found = await self.versions.by_ids(missing) if missing else {}
        self._behind = self._behind and names is not None
        return self._view.follow(there, {one: found.get(one) for one in missing})


def _is_still(record: VersionRecord, copy: Path) -> None:
    if digest_of(copy) != record.digest:
        raise CheckpointError(
            f"{record.path} has changed while it was registered; "
            "register it when nobody writes to it"
        )
