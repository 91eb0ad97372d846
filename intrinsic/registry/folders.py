"""A folder of many adapters: found, examined side by side, registered, and what was refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio.to_thread

from intrinsic.errors import CheckpointError, ConfigError, IntrinsicError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.details import fields_of
from intrinsic.registry.entry import CONFIG_NAME
from intrinsic.registry.inspection import WEIGHTS_NAME
from intrinsic.registry.links import refuse_links_out
from intrinsic.registry.registering import Newcomer, examine
from intrinsic.registry.side_by_side import Progress, side_by_side
from intrinsic.registry.store.entering import newest_of_each
from intrinsic.registry.store.records import VersionRecord

_SIGNS = {CONFIG_NAME, WEIGHTS_NAME, "adapter_model.bin"}


@dataclass(frozen=True, slots=True)
class Refused:
    """A folder that looks like an adapter and was not registered, and why."""

    path: Path
    why: str

    @property
    def sentence(self) -> str:
        """The reason, with the folder."""
        where = "" if str(self.path) in self.why else f"{self.path}: "
        return f"refused: {where}{self.why}"

    def as_json(self) -> dict[str, str]:
        """Return plain values."""
        return {"path": str(self.path), "why": self.why}


@dataclass(frozen=True, slots=True)
class Found:
    """The adapters' folders in a folder, in order, and those that may not be read."""

    folders: tuple[Path, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class Examined:
    """The sound adapters of a folder, as records that are not kept yet, and the others."""

    records: tuple[VersionRecord, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class FolderSummary:
    """What became of a folder's adapters; `known` were registered before with the same files."""

    registered: tuple[VersionRecord, ...]
    known: tuple[str, ...]
    refused: tuple[Refused, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "registered": [fields_of(one) for one in self.registered],
            "known": list(self.known),
            "refused": [one.as_json() for one in self.refused],
        }


def find_adapters(folder: str | Path) -> Found:
    """Find the adapters in a folder and all folders below it; nothing of them is read.

    What lies in an adapter's own folder (a trainer's checkpoints) and in hidden folders is passed
    over. Folders and files that are links out of `folder` are refused. Raises `ConfigError` where
    there is no such folder.
    """
    root = _root(folder)
    found: list[Path] = []
    refused: list[Refused] = []
    waiting = [root]
    while waiting:
        here = waiting.pop()
        try:
            is_adapter, below, links = _look(here)
            refused += [one for link in links for one in _out(link, root)]
            if is_adapter:
                refuse_links_out(here, root)
                found.append(here)
        except (CheckpointError, OSError) as error:
            refused.append(Refused(here, _why(here, error)))
            continue
        if not is_adapter or here == root:
            waiting += below
    return Found(tuple(sorted(found)), tuple(sorted(refused, key=lambda one: one.path)))


async def examine_folder(
    folder: str | Path,
    *,
    said: Newcomer | None = None,
    wanted: Callable[[Path], bool] | None = None,
    progress: Progress | None = None,
) -> Examined:
    """Check all adapters in a folder and below it, several at once; nothing is kept.

    `said` holds what is said of all of them; its path does not matter. `wanted` is asked, in a
    thread, about each folder. Raises `ConfigError` where there is no such folder.
    """

    def find() -> Found:
        found = find_adapters(folder)
        return replace(found, folders=tuple(filter(wanted, found.folders))) if wanted else found

    found = await anyio.to_thread.run_sync(find)
    newcomers = [replace(said, path=p) if said else Newcomer(p) for p in found.folders]
    answers = await side_by_side(_examined, newcomers, progress)
    return Examined(
        tuple(one for one in answers if isinstance(one, VersionRecord)),
        (*found.refused, *(one for one in answers if isinstance(one, Refused))),
    )


async def register_examined(
    catalog: AdapterCatalog,
    examined: Examined,
    *,
    copy: bool = False,
    activate: bool | None = None,
    progress: Progress | None = None,
) -> FolderSummary:
    """Keep what is new of a folder, and say what became of all.

    By default the newest version of a name that was not known is active; with `activate` the newest
    of every name is, or none. Without `copy` all are kept in one transaction.
    """
    there = {one.key: one.digest for one in await catalog.versions.all_live()}
    known = [one.key for one in examined.records if there.get(one.key) == one.digest]
    new = [one for one in examined.records if there.get(one.key) != one.digest]
    if copy:
        answers = await _copy_all(catalog, new, activate, progress)
    else:
        refusals = await catalog.register_all(new, activate=activate)
        answers = [
            record if refusal is None else Refused(record.path, str(refusal))
            for record, refusal in zip(new, refusals, strict=True)
        ]
    ids = [one.id for one in answers if isinstance(one, VersionRecord)]
    kept = await catalog.versions.by_ids(ids)  # as they are now, active or not
    return FolderSummary(
        tuple(kept[one] for one in ids),
        tuple(known),
        (*examined.refused, *(one for one in answers if isinstance(one, Refused))),
    )


def _examined(newcomer: Newcomer) -> VersionRecord | Refused:
    try:
        return examine(newcomer)
    except (IntrinsicError, OSError) as error:
        return Refused(newcomer.path, _why(newcomer.path, error))


async def _copy_all(
    catalog: AdapterCatalog,
    records: Sequence[VersionRecord],
    activate: bool | None,
    progress: Progress | None,
) -> list[VersionRecord | Refused]:
    """One after the other; which are active is decided for all together."""
    names = {one.card.name for one in await catalog.versions.all_live()}
    offered = () if activate is False else records
    new = [record for record in offered if activate or record.name not in names]
    chosen = {record.id for record in newest_of_each(new)}
    answers: list[VersionRecord | Refused] = []
    for record in records:
        try:
            answers.append(await catalog.keep(record, copy=True, activate=record.id in chosen))
        except (IntrinsicError, OSError) as error:
            answers.append(Refused(record.path, str(error)))
        if progress is not None:
            progress(len(answers), len(records))
    return answers


def _look(folder: Path) -> tuple[bool, list[Path], list[Path]]:
    """Whether it is an adapter's folder; the folders in it; and links to folders."""
    is_adapter = False
    below: list[Path] = []
    links: list[Path] = []
    with os.scandir(folder) as inside:
        for one in inside:
            if one.name in _SIGNS and one.is_file():
                is_adapter = True
            elif not one.name.startswith(".") and one.is_dir():
                (links if one.is_symlink() else below).append(Path(one.path))
    return is_adapter, below, links


def _out(link: Path, root: Path) -> list[Refused]:
    """A link to a folder is refused where it leads out; what it leads to in `root` is found."""
    try:
        refuse_links_out(link, root)
    except (CheckpointError, OSError) as error:
        return [Refused(link, _why(link, error))]
    return []


def _root(folder: str | Path) -> Path:
    try:
        root = Path(folder).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{folder} cannot be found: {error}") from None
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ConfigError(f"the folder {root} {what}; name a folder of adapters")
    return root


def _why(path: Path, error: Exception) -> str:
    return f"{path} cannot be read: {error}" if isinstance(error, OSError) else str(error)
