"""Adapters whose files the registry keeps itself: with their row, or neither of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from sqlalchemy import Connection

from intrinsic.errors import CheckpointError, RegistryError
from intrinsic.registry.entry import CONFIG_NAME
from intrinsic.registry.provenance import PROVENANCE_FILE
from intrinsic.registry.store.adding import refuse_taken
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.entering import enter
from intrinsic.registry.store.incoming import Incoming
from intrinsic.registry.store.lookup import records_of
from intrinsic.registry.store.records import VersionRecord
from intrinsic.worker import run_to_end

_T = TypeVar("_T")
_NEEDED = (CONFIG_NAME, "adapter_model.safetensors")
_OPTIONAL = ("card.toml", "card.json", PROVENANCE_FILE, "README.md")


class Copies:
    """The registry's own folder of adapters, `root`, with one folder per version id in it.

    Whoever is killed while adding leaves no row, and files that the next `sweep` removes.
    """

    def __init__(self, database: Database, root: str | Path) -> None:
        self.root = Path(root).expanduser().absolute()
        self._db = database
        self._limiter = anyio.CapacityLimiter(2)

    async def add(
        self,
        record: VersionRecord,
        *,
        check: Callable[[Path], object] | None = None,
        activate: bool | None = False,
    ) -> VersionRecord:
        """Copy the adapter's files from `record.path` and keep the version; return it as kept.

        Config, weights, card, provenance and README are copied, through to the disk. `check` gets
        the copy, in a thread, before anything is kept, and raises to refuse it: the files may have
        changed since they were inspected. `activate` is that of `enter`. Raises as `Versions.add`
        does, `CheckpointError` where a file is missing, and `RegistryError` where it cannot be
        copied; then nothing is left.
        """
        kept = replace(record, path=self.root / record.id, copied=True)
        await self._db.read(partial(refuse_taken, record=record))
        folder = Incoming(self.root, record.id)
        try:
            await self._in_thread(partial(_bring, folder, record.path, check))
            write = partial(_commit, folder=folder, record=kept, activate=activate)
            kept = await self._db.write(write)
        finally:
            with anyio.CancelScope(shield=True):
                await self._settle([folder])
        return kept

    async def sweep(self) -> tuple[str, ...]:
        """Remove what was left by processes that were killed; return the ids of what there was.

        What another process is copying stays. Of a version whose row is there, nothing is removed.
        """
        found = await self._in_thread(partial(_claim_unfinished, self.root))
        await self._settle(found)
        return tuple(folder.version_id for folder in found)

    async def _settle(self, folders: list[Incoming]) -> None:
        """Keep those that have a row; without an answer from the database, leave all to a sweep."""
        ids = [folder.version_id for folder in folders]
        try:
            known = await self._db.read(partial(records_of, ids=ids))
            for folder in folders:
                committed = folder.version_id in known
                await self._in_thread(partial(folder.settle, committed=committed))
        finally:
            for folder in folders:
                folder.release()

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await run_to_end(function, limiter=self._limiter)


def _bring(folder: Incoming, source: Path, check: Callable[[Path], object] | None) -> None:
    for name in _NEEDED:
        if not (source / name).is_file():
            raise CheckpointError(
                f"{source} has no {name}; pass a folder that PEFT's save_pretrained wrote"
            )
    try:
        folder.claim()
        folder.fill(source, _NEEDED, _OPTIONAL)
    except OSError as error:
        raise RegistryError(
            f"{source} cannot be copied to {folder.final.parent}: {error}; make room there, or "
            "register the adapter without a copy"
        ) from error
    if check is not None:
        check(folder.incoming)


def _commit(
    connection: Connection, folder: Incoming, record: VersionRecord, activate: bool | None
) -> VersionRecord:
    kept = enter(connection, record, activate)
    try:
        folder.move()
    except OSError as error:
        raise RegistryError(f"{folder.final} cannot be made: {error}") from error
    return kept


def _claim_unfinished(root: Path) -> list[Incoming]:
    return [folder for folder in Incoming.unfinished(root) if folder.try_claim()]
