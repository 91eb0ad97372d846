"""`intrinsic adapters verify`, `export` and `rescan`: versions and their files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intrinsic.cli.arguments import AdaptersDir, Json, Registry, Texts

if TYPE_CHECKING:
    from intrinsic.config.place import Where
    from intrinsic.registry.rescan import Rescanned
    from intrinsic.registry.verifying import Verdict


def verify_command(
    names: Annotated[
        Texts, typer.Argument(metavar="NAME[@VERSION]...", help="Default: all versions.")
    ] = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Compare the digests of all files with those registered; exit code 1 if any is not ok."""
    import anyio

    from intrinsic.cli.output import print_json, print_table, tell
    from intrinsic.cli.registry_place import need_place

    found = anyio.run(_verify, need_place(registry, adapters_dir), names or [])
    states = Counter(one.state for one in found)
    if json:
        print_json([one.as_json() for one in found])
    else:
        rows = [(one.key, one.state, str(one.path)) for one in found]
        print_table("files", ("adapter", "state", "path"), rows)
        for one in found:
            if one.why:
                tell(f"intrinsic: {one.why}")
        tell(f"{states['ok']} ok, {states['changed']} changed, {states['missing']} missing")
    raise typer.Exit(0 if states["ok"] == len(found) else 1)


def export_command(
    name: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make.")],
    force: Annotated[bool, typer.Option(help="Replace the adapter that is in the folder.")] = False,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Write a version out as an ordinary PEFT folder with its card and provenance."""
    import anyio

    from intrinsic.cli.output import print_json, write
    from intrinsic.cli.registry_place import need_place

    key, folder = anyio.run(_export, need_place(registry, adapters_dir), name, out, force)
    if json:
        print_json({"exported": key, "path": str(folder)})
    else:
        write(f"{key} is in {folder}")


def rescan_command(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="Where new ones may be; default: --adapters-dir, or ./adapters."
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Do it again whenever something changes, until stopped.")
    ] = False,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Register what is new in a folder, take over changed cards, tell what changed or is gone."""
    import anyio

    from intrinsic.cli.output import print_json, tell
    from intrinsic.cli.registry_place import need_place

    where = need_place(registry, adapters_dir)
    folder = folder or adapters_dir or _beside(where)
    if folder is None:
        tell("intrinsic: no folder is searched for new adapters; name one to do so")
    if watch:
        anyio.run(_watch, where, folder, json)
    found = anyio.run(_rescan, where, folder)
    if json:
        print_json(found.as_json())
    else:
        _print_rescan(found)
    raise typer.Exit(1 if found.refused else 0)


async def _verify(where: Where, names: list[str]) -> tuple[Verdict, ...]:
    from intrinsic.cli.registry_bar import bar
    from intrinsic.cli.registry_place import opened
    from intrinsic.registry.verifying import verify

    async with opened(where) as catalog:
        with bar("verifying") as progress:
            return await verify(catalog, names, progress=progress)


async def _export(where: Where, name: str, out: Path, force: bool) -> tuple[str, Path]:
    from intrinsic.cli.registry_place import opened
    from intrinsic.registry.exporting import export

    async with opened(where) as catalog:
        key = (await catalog.get(name)).key
        return key, await export(catalog, key, out, force=force)


async def _rescan(where: Where, folder: Path | None) -> Rescanned:
    from intrinsic.cli.registry_bar import bar
    from intrinsic.cli.registry_place import opened
    from intrinsic.registry.rescan import rescan

    async with opened(where) as catalog:
        with bar("rescanning") as progress:
            return await rescan(catalog, folder, progress=progress)


async def _watch(where: Where, folder: Path | None, as_json: bool) -> None:
    """Tell of every rescan that found something, until somebody stops it."""
    from functools import partial

    from intrinsic.cli.registry_place import opened
    from intrinsic.errors import ConfigError
    from intrinsic.registry.watching import watch

    if folder is None:
        raise ConfigError("there is no folder to watch; name one: rescan DIR --watch")
    async with opened(where) as catalog:
        await watch(catalog, folder, heard=partial(_tell_watched, as_json))


def _tell_watched(as_json: bool, found: Rescanned) -> None:
    from intrinsic.cli.output import print_json

    if not (found.registered or found.cards or found.missing):
        return
    if as_json:
        print_json(found.as_json())
    else:
        _print_rescan(found)


def _beside(where: Where) -> Path | None:
    """The folder that a file `DIR.db` is for, if there is one."""
    from intrinsic.config.place import expanded

    if isinstance(where, str) and "://" in where:
        return None
    file = expanded(Path(where))
    folder = file.with_suffix("")
    return folder if file.suffix == ".db" and folder.is_dir() else None


def _print_rescan(found: Rescanned) -> None:
    from intrinsic.cli.output import print_table, tell

    rows = [
        (one.key, f"registered, {'active' if one.active else 'not active'}")
        for one in found.registered
    ]
    rows += [(key, "card taken over") for key in found.cards]
    rows += [(one.key, one.state) for one in (*found.changed, *found.missing)]
    if rows:
        print_table("rescan", ("adapter", "what"), rows)
    for one in (*found.changed, *found.missing):
        tell(f"intrinsic: {one.why}")
    for refused in found.refused:
        tell(f"intrinsic: {refused.sentence}")
    tell(
        f"{len(found.registered)} new, {len(found.cards)} cards, {len(found.changed)} changed, "
        f"{len(found.missing)} missing, {len(found.refused)} refused"
    )
