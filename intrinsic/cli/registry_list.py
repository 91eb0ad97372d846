"""`intrinsic adapters list`: the versions of a registry, or the adapters in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from intrinsic.cli.arguments import AdaptersDir, Json, Registry

if TYPE_CHECKING:
    from intrinsic.config.place import Where
    from intrinsic.registry.store.listing import ListQuery, Page, Sort
    from intrinsic.registry.store.records import VersionRecord


def list_command(
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Those routing may choose, or not.")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Of that domain.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Made for that base model.")] = None,
    name: Annotated[str | None, typer.Option(metavar="PATTERN", help="As sql*.")] = None,
    trained_here: Annotated[
        bool, typer.Option("--trained-here", help="Made with 'intrinsic train'.")
    ] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted ones too.")] = False,
    sort: Annotated[str, typer.Option(help="name, version, created, bytes or domain.")] = "name",
    descending: Annotated[bool, typer.Option("--descending", help="The last first.")] = False,
    limit: Annotated[int, typer.Option(help="Print at most this many.")] = 100,
    offset: Annotated[int, typer.Option(help="Pass over the first.")] = 0,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """List the versions of a registry, or the adapters in a folder without one."""
    import anyio

    from intrinsic.cli.settings import project_of
    from intrinsic.config.place import find_place, place_needed
    from intrinsic.registry.store.listing import ListQuery

    project = project_of(registry, adapters_dir)
    where = find_place(project)
    query = ListQuery(
        active=active,
        domain=domain,
        base_model=base_model,
        name=name,
        trained_here=trained_here or None,
        include_deleted=deleted,
        sort=cast("Sort", sort),
        descending=descending,
        limit=limit,
        offset=offset,
    )
    if where is None and query == ListQuery():
        from intrinsic.cli.adapters import print_adapters

        print_adapters(project, as_json=json)
        return
    where = where or place_needed(project)
    _print_page(anyio.run(_page, where, query), query, as_json=json)


async def _page(where: Where, query: ListQuery) -> Page:
    from intrinsic.cli.registry_place import opened

    async with opened(where) as catalog:
        return await catalog.list(query)


def _print_page(page: Page, query: ListQuery, *, as_json: bool) -> None:
    from intrinsic.cli.output import print_json, print_table, tell
    from intrinsic.registry.details import fields_of

    if as_json:
        print_json([fields_of(record) for record in page.records])
    else:
        print_table("adapters", _COLUMNS, [_row(record) for record in page.records])
    if len(page.records) < page.total:
        tell(
            f"{len(page.records)} of {page.total}, from {query.offset} on; "
            "more with --offset and --limit"
        )


_COLUMNS = ("name", "version", "active", "domain", "base model", "size", "description")


def _row(record: VersionRecord) -> tuple[str, ...]:
    active = "deleted" if record.is_deleted else "yes" if record.active else "no"
    size = f"{record.bytes / 1e6:.2f} MB"
    card = record.card
    return (
        *(card.name, card.version, active, card.domain),
        *(record.base_model, size, card.description),
    )
