"""Whether the adapters of a catalog are for the model that runs, asked before one is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from intrinsic.errors import AdapterNotFoundError, CheckpointError, IncompatibleAdapterError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.compatibility import Compatibility, check
from intrinsic.registry.entry import AdapterEntry
from intrinsic.registry.inspection import digest_of
from intrinsic.registry.registering import found_in
from intrinsic.registry.signature import ModelSignature
from intrinsic.registry.store.listing import ListQuery
from intrinsic.registry.store.records import VersionRecord

if TYPE_CHECKING:
    from intrinsic.lora.file_stamp import Stamp

_MOST_LISTED = 10
_MOST_CHECKED = 1_000


class ModelFit:
    """Judges the versions of a catalog by one model; `forced` lets through what is unknown."""

    def __init__(
        self,
        catalog: AdapterCatalog,
        model_name: str,
        model: ModelSignature,
        *,
        forced: bool = False,
    ) -> None:
        self._catalog = catalog
        self._name = model_name
        self._model = model
        self._forced = forced
        self._seen: dict[str, tuple[str, Stamp]] = {}  # digest and files, by version id

    async def __call__(self, entry: AdapterEntry) -> None:
        """Raise `IncompatibleAdapterError`, which names adapters that fit, for one that does not.

        Raises `CheckpointError` where its files are not those that were registered, and
        `AdapterNotFoundError` for a version that was deleted. What the catalog does not know is
        left to the engine, which checks every shape.
        """
        if self._catalog.id_of(entry.key) is None:
            await self._refuse_deleted(entry.key)
            return
        record = await self._catalog.get(entry.key)
        await anyio.to_thread.run_sync(self._demand_unchanged, record)
        found = self.judge(record)
        if not found.allows(forced=self._forced):
            raise IncompatibleAdapterError(
                f"adapter {entry.key!r} is not for the model that runs: {found.reason}; "
                + await self._others(record)
            )

    def judge(self, record: VersionRecord) -> Compatibility:
        """Say whether a version is for the model, and why. Raises `ConfigError`."""
        inspection, recorded = found_in(record.inspection)
        return check(inspection, recorded, self._name, self._model)

    async def compatible(self, domain: str = "") -> list[VersionRecord]:
        """Return the active versions that fit, those of `domain` first, then by name.

        Of more than a thousand active versions, the first thousand by name are looked at.
        """
        page = await self._catalog.list(ListQuery(active=True, limit=_MOST_CHECKED))
        fits = [one for one in page.records if self.judge(one).allows(forced=self._forced)]
        return sorted(fits, key=lambda one: one.card.domain.lower() != domain.lower())

    async def _refuse_deleted(self, key: str) -> None:
        """Of a version whose folder somebody named by its path."""
        try:
            changes = await self._catalog.history(key)
        except AdapterNotFoundError:
            return
        if any(one.event == "deleted" for one in changes):
            await self._catalog.get(key)  # which raises, and says when it was

    def _demand_unchanged(self, record: VersionRecord) -> None:
        """Compare the digest, unless the files are those for which it was compared before."""
        from intrinsic.lora.file_stamp import stamp_of

        seen = (record.digest, stamp_of(record.path))
        if self._seen.get(record.id) == seen:
            return
        if digest_of(record.path) != record.digest:
            raise CheckpointError(
                f"the files of adapter {record.key!r} in {record.path} have changed since it was "
                "registered; put them back, or register them as a new version"
            )
        self._seen[record.id] = seen

    async def _others(self, record: VersionRecord) -> str:
        fits = await self.compatible(record.card.domain)
        if not fits:
            return "no active adapter fits it"
        shown = ", ".join(one.key for one in fits[:_MOST_LISTED])
        return f"these fit: {shown}" + (", ..." if len(fits) > _MOST_LISTED else "")
