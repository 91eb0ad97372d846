"""`intrinsic adapters activate`, `deactivate`, `rename` and `delete`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from intrinsic.cli.arguments import AdaptersDir, Json, Registry
from intrinsic.errors import ConfigError

if TYPE_CHECKING:
    from intrinsic.config.place import Where
    from intrinsic.registry.catalog import AdapterCatalog
    from intrinsic.registry.store.records import LiveVersion, VersionRecord

Name = Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")]


def activate_command(
    name: Name,
    keep_others: Annotated[
        bool, typer.Option("--keep-others", help="Leave other versions of the name active.")
    ] = False,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Offer a version to routing; other versions of its name are switched off."""
    import anyio

    from intrinsic.cli.output import print_json, write
    from intrinsic.cli.registry_place import need_place

    key, off = anyio.run(_activate, need_place(registry, adapters_dir), name, not keep_others)
    if json:
        print_json({"activated": key, "deactivated": off})
    else:
        write(f"{key} is active{f', {_listed(off)} not any more' if off else ''}")


def deactivate_command(
    name: Name,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Offer a version to routing no more; NAME alone means all of its versions."""
    import anyio

    from intrinsic.cli.output import print_json, write
    from intrinsic.cli.registry_place import need_place

    off = anyio.run(_deactivate, need_place(registry, adapters_dir), name)
    if json:
        print_json({"deactivated": off})
    elif off:
        write(f"{_listed(off)} {'is' if len(off) == 1 else 'are'} not active any more")
    else:
        write(f"{name} was not active")


def rename_command(
    name: Annotated[str, typer.Argument(help="The name, without a version.")],
    new_name: Annotated[str, typer.Argument(help="One that was never used.")],
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Give all versions of a name another one."""
    import anyio

    from intrinsic.cli.output import print_json, write
    from intrinsic.cli.registry_place import need_place

    keys = anyio.run(_rename, need_place(registry, adapters_dir), name, new_name)
    if json:
        print_json({"renamed": keys})
    else:
        write(f"{name} is {_listed(keys)} now")


def delete_command(
    name: Annotated[str, typer.Argument(help="NAME@VERSION; NAME if it has one version.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Make a version unusable for ever; its history, use and feedback stay, and its files."""
    import anyio

    from intrinsic.cli.output import print_json, tell, write
    from intrinsic.cli.registry_place import need_place

    where = need_place(registry, adapters_dir)
    version = anyio.run(_one_version, where, name)
    if not yes and not _agreed(version.key):
        tell(f"{version.key} is not deleted")
        raise typer.Exit(1)
    anyio.run(_delete, where, version.key)
    if json:
        print_json({"deleted": version.key})
    else:
        write(f"{version.key} is deleted; its files stay in {version.path}")
    if version.active:
        tell(f"it was active: activate another version of {version.card.name}, if it has one")


async def _activate(where: Where, name: str, only: bool) -> tuple[str, list[str]]:
    from intrinsic.cli.registry_place import opened

    async with opened(where) as catalog:
        record = await catalog.get(name)
        before = await _active(catalog, record.name)
        await catalog.activate(record.key, only=only)
        after = await _active(catalog, record.name)
    return record.key, [key for key in before if key not in after]


async def _deactivate(where: Where, name: str) -> list[str]:
    from intrinsic.cli.registry_place import opened

    async with opened(where) as catalog:
        record = await catalog.get(name)
        active = await _active(catalog, record.name)
        keys = active if name == record.name else [key for key in active if key == record.key]
        for key in keys:
            await catalog.deactivate(key)
    return keys


async def _rename(where: Where, name: str, new_name: str) -> list[str]:
    from intrinsic.cli.registry_place import opened

    async with opened(where) as catalog:
        return [record.key for record in await catalog.rename(name, new_name)]


async def _delete(where: Where, key: str) -> VersionRecord:
    from intrinsic.cli.registry_place import opened

    async with opened(where) as catalog:
        return await catalog.delete(key)


async def _one_version(where: Where, name: str) -> LiveVersion:
    """The version to delete, which must be clear."""
    from intrinsic.cli.registry_place import opened

    async with opened(where) as catalog:
        key = (await catalog.get(name)).key
        versions = await catalog.versions.all_live([key.partition("@")[0]])
    if name != key and len(versions) > 1:
        raise ConfigError(
            f"{name} has {len(versions)} versions; name one of {_listed([v.key for v in versions])}"
        )
    return next(one for one in versions if one.key == key)


async def _active(catalog: AdapterCatalog, name: str) -> list[str]:
    return [one.key for one in await catalog.versions.all_live([name]) if one.active]


def _agreed(key: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(f"{key} is not deleted, as nobody can be asked here; add --yes")
    return typer.confirm(f"Delete {key} for ever?", err=True)


def _listed(keys: list[str]) -> str:
    return ", ".join(keys)
