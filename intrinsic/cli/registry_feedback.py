"""`intrinsic adapters rate` and `prefer`: what people say of outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from intrinsic.cli.arguments import AdaptersDir, Json, Registry, Texts
from intrinsic.errors import ConfigError

if TYPE_CHECKING:
    from intrinsic.config.place import Where
    from intrinsic.registry.catalog import AdapterCatalog
    from intrinsic.registry.preferences import Outcome

BASE = "base"
"""The word for the base model alone; an adapter of that name is meant by `base@VERSION`."""


def rate_command(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]|base", help="Whose output.")],
    rating: Annotated[int, typer.Argument(help="1 to 5.")],
    criterion: Annotated[
        Texts, typer.Option(metavar="NAME=N", help="1 to 5 for one aspect; may be repeated.")
    ] = None,
    tag: Annotated[Texts, typer.Option(help="May be repeated.")] = None,
    prompt: Annotated[str, typer.Option(help="What was asked.")] = "",
    output: Annotated[str, typer.Option(help="What was answered.")] = "",
    rater: Annotated[str, typer.Option(help="Who says so.")] = "",
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Rate an output of a version, or of the base model."""
    import anyio

    from intrinsic.cli.output import print_json, write
    from intrinsic.cli.registry_place import need_place, opened

    criteria = dict(_criterion(text) for text in criterion or ())

    async def rate(where: Where) -> tuple[str, int]:
        async with opened(where) as catalog:
            key, version_id = await _found(catalog, name)
            number = await catalog.feedback.rate(
                version_id, rating, criteria, tag or (), prompt, output, rater
            )
        return key, number

    key, number = anyio.run(rate, need_place(registry, adapters_dir))
    if json:
        print_json({"adapter": key, "rating": rating, "criteria": criteria, "id": number})
    else:
        write(f"{_shown(key)} got a {rating}")


def prefer_command(
    a: Annotated[str, typer.Argument(metavar="A", help="NAME[@VERSION], or base.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    outcome: Annotated[str, typer.Option(help="a, b or tie: whose output was better.")],
    prompt: Annotated[str, typer.Option(help="What both were asked.")] = "",
    rater: Annotated[str, typer.Option(help="Who says so.")] = "",
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Say which of two versions answered a prompt better."""
    import anyio

    from intrinsic.cli.output import print_json, write
    from intrinsic.cli.registry_place import need_place, opened

    async def prefer(where: Where) -> tuple[str, str, int]:
        async with opened(where) as catalog:
            a_key, a_id = await _found(catalog, a)
            b_key, b_id = await _found(catalog, b)
            if a_id == b_id:
                raise ConfigError(f"{a} and {b} are both {_shown(a_key)}; name two versions")
            said = cast("Outcome", outcome)
            number = await catalog.feedback.prefer(a_id, b_id, said, prompt, rater)
        return a_key, b_key, number

    a_key, b_key, number = anyio.run(prefer, need_place(registry, adapters_dir))
    if json:
        print_json({"a": a_key, "b": b_key, "outcome": outcome, "id": number})
    elif outcome == "tie":
        write(f"{_shown(a_key)} and {_shown(b_key)} are even")
    else:
        better, other = (a_key, b_key) if outcome == "a" else (b_key, a_key)
        write(f"{_shown(better)} is preferred to {_shown(other)}")


async def _found(catalog: AdapterCatalog, name: str) -> tuple[str, str | None]:
    if name == BASE:
        return BASE, None
    record = await catalog.get(name)
    return record.key, record.id


def _criterion(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    try:
        return _named(name.strip()), int(number)
    except ValueError:
        raise ConfigError(f"{text!r:.80} is no NAME=N; write a criterion so: style=4") from None


def _named(name: str) -> str:
    if not name:
        raise ValueError
    return name


def _shown(key: str) -> str:
    return "the base model" if key == BASE else key
