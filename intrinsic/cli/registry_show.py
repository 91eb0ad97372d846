"""`intrinsic adapters show NAME` and `history NAME`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intrinsic.cli.arguments import AdaptersDir, Json, Registry

if TYPE_CHECKING:
    from intrinsic.config.place import Where
    from intrinsic.registry.details import Details
    from intrinsic.registry.store.changes import Change


def show_command(
    name: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")],
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Show everything about one version; of an adapter in a folder, its files checked."""
    import anyio

    from intrinsic.cli.output import print_json, print_table
    from intrinsic.cli.settings import project_of
    from intrinsic.config.place import find_place

    project = project_of(registry, adapters_dir)
    where = find_place(project)
    if where is None:
        from intrinsic.cli.adapters import print_adapter

        print_adapter(name, project, as_json=json)
        return
    details = anyio.run(_details, where, name)
    if json:
        print_json(details.as_json())
    else:
        print_table(details.record.key, ("field", "value"), list(_rows(details.as_json())))


def history_command(
    name: Annotated[str, typer.Argument(help="NAME for all versions, or NAME@VERSION.")],
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Show what happened to a version, or to all of a name, deleted ones too."""
    import anyio

    from intrinsic.cli.output import print_json, print_table
    from intrinsic.cli.registry_place import need_place
    from intrinsic.registry.details import iso

    changes = anyio.run(_history, need_place(registry, adapters_dir), name)
    if json:
        print_json([_fields(change) for change in changes])
        return
    print_table(
        name,
        ("at", "adapter", "event", "detail"),
        [(iso(one.at) or "", one.key, one.event, _text(one.detail)) for one in changes],
    )


async def _details(where: Where, name: str) -> Details:
    from intrinsic.cli.registry_place import opened
    from intrinsic.registry.details import details_of

    async with opened(where) as catalog:
        return await details_of(catalog, name, live=False)


async def _history(where: Where, name: str) -> tuple[Change, ...]:
    from intrinsic.cli.registry_place import opened

    async with opened(where) as catalog:
        return await catalog.history(name)


def _fields(change: Change) -> dict[str, Any]:
    from intrinsic.registry.details import iso

    name, _, version = change.key.partition("@")
    return {
        "at": iso(change.at),
        "name": name,
        "version": version,
        "event": change.event,
        "detail": dict(change.detail),
    }


def _rows(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """A row for each value that is known; those of an object are called `object.value`."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{within}{key}.")
        elif value not in (None, "", [], ()):
            yield f"{within}{key}", _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_text(one) for one in value)
    return str(value)
