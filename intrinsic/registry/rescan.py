"""The catalog and the files looked at again: what is new, changed underneath, or gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from intrinsic.card import AdapterCard
from intrinsic.errors import AdapterError, ConfigError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.details import fields_of
from intrinsic.registry.entry import read_entry
from intrinsic.registry.folders import (
    FolderSummary,
    Refused,
    examine_folder,
    register_examined,
)
from intrinsic.registry.registering import card_in_files, kept_card
from intrinsic.registry.side_by_side import Progress, side_by_side
from intrinsic.registry.store.listing import ListQuery
from intrinsic.registry.store.records import VersionRecord
from intrinsic.registry.verifying import Verdict, are_there, verdict_on

_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Rescanned:
    """What was new, whose card was taken over, and whose files changed or are missing.

    `changed` and `missing` are told and left as they are: a version's files never change.
    """

    registered: tuple[VersionRecord, ...]
    cards: tuple[str, ...]
    changed: tuple[Verdict, ...]
    missing: tuple[Verdict, ...]
    refused: tuple[Refused, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "registered": [fields_of(one) for one in self.registered],
            "cards": list(self.cards),
            "changed": [one.as_json() for one in self.changed],
            "missing": [one.as_json() for one in self.missing],
            "refused": [one.as_json() for one in self.refused],
        }


async def rescan(
    catalog: AdapterCatalog,
    folder: str | Path | None = None,
    *,
    digests: bool = True,
    progress: Progress | None = None,
) -> Rescanned:
    """Register what is new in a folder and below it, and look at the files of all versions.

    A folder whose card has another name or version than before holds a new version. Of other
    changes in a card's file those fields are taken over that changed since it was last read, so
    that what was said when it was registered stays. Deleted versions stay deleted. Without
    `digests` changed weights go unnoticed, and it is quick. Raises `ConfigError` where there is no
    such folder.
    """
    await catalog.refresh()
    known = [one async for page in _pages(catalog) for one in page]
    new = FolderSummary((), (), ())
    if folder is not None:
        new = await _register_new(catalog, folder, known, progress)
    living = [one for one in known if not one.is_deleted]
    looked = await side_by_side(verdict_on if digests else are_there, living, progress)
    there = {one.version_id for one in looked if one.state != "missing"}
    cards, unread = await _take_over_cards(catalog, [one for one in living if one.id in there])
    return Rescanned(
        new.registered,
        tuple(cards),
        tuple(one for one in looked if one.state == "changed"),
        tuple(one for one in looked if one.state == "missing"),
        (*new.refused, *unread),
    )


class _Known:
    """The versions by their files, deleted ones too, so that none of them is taken for new."""

    def __init__(self, records: Iterable[VersionRecord]) -> None:
        self._copies: set[Path] = set()
        self._keys: set[tuple[Path, str]] = set()
        self._files: set[tuple[str, str]] = set()
        for one in records:
            read = card_in_files(one.inspection) or one.card
            if one.copied:
                self._copies.add(one.path)
            self._keys.add((one.path, read.key))
            self._files |= {(read.key, one.digest), (one.key, one.digest)}

    def may_be_new(self, folder: Path) -> bool:
        """Whether a folder, a resolved path, is no version's, going by its card."""
        if folder in self._copies:
            return False
        try:
            return (folder, read_entry(folder).key) not in self._keys
        except (AdapterError, ConfigError):
            return all(folder != path for path, _ in self._keys)  # it will be refused once

    def is_new(self, record: VersionRecord) -> bool:
        """Whether no version has its name, version and digest."""
        return (record.key, record.digest) not in self._files


async def _pages(catalog: AdapterCatalog) -> AsyncIterator[Sequence[VersionRecord]]:
    query = ListQuery(include_deleted=True, limit=_PAGE)
    while page := (await catalog.list(query)).records:
        yield page
        query = replace(query, offset=query.offset + _PAGE)


async def _register_new(
    catalog: AdapterCatalog,
    folder: str | Path,
    records: Sequence[VersionRecord],
    progress: Progress | None,
) -> FolderSummary:
    known = _Known(records)
    found = await examine_folder(folder, wanted=known.may_be_new, progress=progress)
    new = tuple(one for one in found.records if known.is_new(one))
    return await register_examined(catalog, replace(found, records=new))


async def _take_over_cards(
    catalog: AdapterCatalog, records: Sequence[VersionRecord]
) -> tuple[list[str], list[Refused]]:
    taken: list[str] = []
    refused: list[Refused] = []
    for record, answer in zip(records, await side_by_side(_newer_card, records), strict=True):
        if isinstance(answer, Refused):
            refused.append(answer)
        elif answer is not None:
            card, in_files = answer
            await catalog.update_card(record.key, card)
            inspection = {**record.inspection, **kept_card(in_files)}
            await catalog.versions.set_digest(record.id, record.digest, inspection=inspection)
            taken.append(record.key)
    return taken, refused


def _newer_card(record: VersionRecord) -> tuple[AdapterCard, AdapterCard] | Refused | None:
    """The card with what changed in its file, and that of the file; None where nothing did."""
    try:
        now = read_entry(record.path).card
    except (AdapterError, ConfigError) as error:
        return Refused(record.path, str(error))
    before = card_in_files(record.inspection) or record.card
    if record.copied:  # whose folder has a name of the registry's
        now = replace(now, name=before.name)
    if now == before or now.key != before.key:
        return None
    old, new = asdict(before), asdict(now)
    return replace(record.card, **{key: new[key] for key in new if new[key] != old[key]}), now
