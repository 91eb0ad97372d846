"""Whether the files of the versions are still those that were registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from intrinsic.errors import CheckpointError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.entry import CONFIG_NAME
from intrinsic.registry.inspection import WEIGHTS_NAME, digest_of
from intrinsic.registry.side_by_side import Progress, side_by_side
from intrinsic.registry.store.records import LiveVersion, VersionRecord

State = Literal["ok", "changed", "missing"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one version; `why` is a sentence, empty where all is well."""

    key: str
    version_id: str
    path: Path
    state: State
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        name, _, version = self.key.partition("@")
        return {
            "name": name,
            "version": version,
            "state": self.state,
            "path": str(self.path),
            "why": self.why,
        }


async def verify(
    catalog: AdapterCatalog, keys: Sequence[str] = (), *, progress: Progress | None = None
) -> tuple[Verdict, ...]:
    """Read the files of the named versions, or of all, and compare their digests; change nothing.

    A name stands for all of its versions. Raises `AdapterNotFoundError` for an unknown one.
    """
    versions = [one for one in await catalog.versions.all_live() if not keys or _named(one, keys)]
    for key in keys:
        if not any(_named(one, [key]) for one in versions):
            await catalog.get(key)
    return tuple(await side_by_side(verdict_on, versions, progress))


def verdict_on(version: LiveVersion | VersionRecord) -> Verdict:
    """Read one version's files; those that cannot be read are missing."""
    state: State = "ok"
    why = ""
    try:
        if digest_of(version.path) != version.digest:
            state, why = "changed", _changed(version)
    except CheckpointError as error:
        state, why = "missing", f"{version.key}: {error}"
    return Verdict(version.key, version.id, version.path, state, why)


def are_there(version: LiveVersion | VersionRecord) -> Verdict:
    """Look for one version's files, without reading them."""
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (version.path / name).is_file():
            why = f"{version.key}: {version.path} has no {name}"
            return Verdict(version.key, version.id, version.path, "missing", why)
    return Verdict(version.key, version.id, version.path, "ok")


def _changed(version: LiveVersion | VersionRecord) -> str:
    return (
        f"{version.key}: the files in {version.path} are not those that were registered; put them "
        "back, or register what is there as a new version"
    )


def _named(version: LiveVersion, keys: Sequence[str]) -> bool:
    return version.key in keys or version.card.name in keys
