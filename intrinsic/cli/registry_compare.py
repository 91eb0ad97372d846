"""`intrinsic adapters compare NAME [VERSIONS...]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from intrinsic.cli.arguments import AdaptersDir, Json, Registry, Texts
from intrinsic.errors import ConfigError

if TYPE_CHECKING:
    from intrinsic.config.place import Where
    from intrinsic.registry.comparison import Comparison, VersionSummary
    from intrinsic.registry.preferences import PreferenceSummary


def compare_command(
    name: Annotated[str, typer.Argument(help="The adapter's name.")],
    versions: Annotated[
        Texts, typer.Argument(help="Its versions, or NAME@VERSION of others; default: all.")
    ] = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Put what people say of versions side by side, and say which differences are significant."""
    import anyio

    from intrinsic.cli.output import print_json, print_table, write
    from intrinsic.cli.registry_place import need_place

    place = need_place(registry, adapters_dir)
    found = anyio.run(_comparison, place, name, versions or [])
    if json:
        print_json(found.as_json())
        return
    print_table(name, _COLUMNS, [_row(one) for one in found.versions])
    for sentence in found.sentences:
        write(sentence)


async def _comparison(where: Where, name: str, asked: list[str]) -> Comparison:
    from intrinsic.cli.registry_place import opened
    from intrinsic.registry.compared import compare_versions

    if "@" in name:
        raise ConfigError(f"{name!r} has a version; write compare NAME VERSION VERSION")
    async with opened(where) as catalog:
        return await compare_versions(catalog, name, asked)


_COLUMNS = (
    *("version", "ratings", "mean", "95 %", "won", "lost", "ties", "win rate", "95 %"),
    "against base",
)


def _row(one: VersionSummary) -> tuple[str, ...]:
    ratings, votes = one.ratings, one.preferences
    return (
        one.version or "base",
        str(ratings.count),
        "" if ratings.mean is None else f"{ratings.mean:.2f}",
        "" if ratings.interval is None else "{:.2f} to {:.2f}".format(*ratings.interval),
        *(str(votes.wins), str(votes.losses), str(votes.ties)),
        _rate(votes),
        "" if votes.interval is None else "{:.0%} to {:.0%}".format(*votes.interval),
        "" if one.against_base is None else _rate(one.against_base),
    )


def _rate(votes: PreferenceSummary) -> str:
    return "" if votes.win_rate is None else f"{votes.win_rate:.0%} of {votes.decisive}"
