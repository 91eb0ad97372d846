"""`intrinsic adapters register PATH`."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intrinsic.cli.arguments import AdaptersDir, Json, Registry, Texts
from intrinsic.errors import ConfigError

if TYPE_CHECKING:
    from intrinsic.config.place import Where
    from intrinsic.registry.folders import FolderSummary
    from intrinsic.registry.registering import Newcomer
    from intrinsic.registry.store.records import VersionRecord

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"


def register_command(
    path: Annotated[
        Path, typer.Argument(help="A folder of PEFT, a .safetensors file, or a folder of many.")
    ],
    name: Annotated[str | None, typer.Option(help="Default: what the card says.")] = None,
    version: Annotated[str | None, typer.Option(help="Default: what the card says.")] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Name or folder; default: what the config says.")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="The subject, in a word or two.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for, a sentence.")] = None,
    keyword: Annotated[Texts, typer.Option(help="In place of the card's; may be repeated.")] = None,
    example: Annotated[Texts, typer.Option(help="A query that it should answer.")] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="All adapters in the folder and below it.")
    ] = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the files into the registry's own folder.")
    ] = False,
    files: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="That folder; default: FILE.files beside the registry."),
    ] = None,
    activate: Annotated[
        bool | None,
        typer.Option(
            "--activate/--no-activate", help="Default: the first version of a name is active."
        ),
    ] = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    json: Json = False,
) -> None:
    """Check adapters and keep them as versions; makes the registry where there is none."""
    import anyio

    from intrinsic.cli.registry_place import place_of
    from intrinsic.registry.registering import Newcomer

    said = Newcomer(path, name, version, base_model, domain, description, keyword, example)
    where = place_of(registry, adapters_dir)
    if recursive:
        _refuse_for_many(name=name, version=version, description=description, example=example)
        summary = anyio.run(_register_folder, said, where, files, copy, activate)
        _print_summary(summary, as_json=json)
        raise typer.Exit(1 if summary.refused else 0)
    _print_one(anyio.run(_register_one, said, where, files, copy, activate), as_json=json)


async def _register_one(
    said: Newcomer, where: Where, files: Path | None, copy: bool, activate: bool | None
) -> VersionRecord:
    import anyio.to_thread

    from intrinsic.cli.registry_place import opened
    from intrinsic.registry.registering import examine

    async with _as_folder(said) as newcomer:  # checked before a registry is made
        record = await anyio.to_thread.run_sync(examine, newcomer)
        async with opened(where, files) as catalog:
            copy = copy or newcomer is not said
            return await catalog.keep(record, copy=copy, activate=activate)


@asynccontextmanager
async def _as_folder(said: Newcomer) -> AsyncIterator[Newcomer]:
    """The newcomer itself, or a folder for a while for one that is a single file."""
    import anyio.to_thread

    from intrinsic.config.place import expanded
    from intrinsic.registry.single_file import from_single_file

    path = expanded(said.path)
    if not path.is_file():
        if path.is_dir() and not (path / _CONFIG).exists() and any(path.glob(f"*/{_CONFIG}")):
            raise ConfigError(
                f"{path} is no adapter, but has adapters in it; add --recursive to register those"
            )
        yield said
        return
    with tempfile.TemporaryDirectory(prefix="intrinsic-") as room:
        named = path.absolute().parent.name if path.name == _WEIGHTS else path.stem
        into = Path(room) / named
        yield replace(said, path=await anyio.to_thread.run_sync(from_single_file, path, None, into))


async def _register_folder(
    said: Newcomer, where: Where, files: Path | None, copy: bool, activate: bool | None
) -> FolderSummary:
    from intrinsic.cli.registry_bar import bar
    from intrinsic.cli.registry_place import opened
    from intrinsic.registry.folders import FolderSummary, examine_folder, register_examined

    with bar("checking") as progress:
        examined = await examine_folder(said.path, said=said, progress=progress)
    if not examined.records and not examined.refused:
        raise ConfigError(
            f"there is no adapter in {said.path}; name a folder with folders that PEFT's "
            "save_pretrained wrote"
        )
    if not examined.records:
        return FolderSummary((), (), examined.refused)
    async with opened(where, files) as catalog:
        with bar("registering") as progress:
            return await register_examined(
                catalog, examined, copy=copy, activate=activate, progress=progress
            )


def _refuse_for_many(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"--{name} is for one adapter; leave it out with --recursive")


def _print_one(record: VersionRecord, *, as_json: bool) -> None:
    from intrinsic.cli.output import print_json, write
    from intrinsic.registry.details import fields_of

    if as_json:
        print_json(fields_of(record))
    else:
        write(f"{record.key} is registered{' and active' if record.active else ', not active'}")


def _print_summary(summary: FolderSummary, *, as_json: bool) -> None:
    from intrinsic.cli.output import print_json, print_table, tell

    if as_json:
        print_json(summary.as_json())
        return
    if summary.registered:
        print_table(
            "registered",
            ("name", "version", "active", "path"),
            [
                (one.name, one.version, "yes" if one.active else "no", str(one.path))
                for one in summary.registered
            ],
        )
    for refused in summary.refused:
        tell(f"intrinsic: {refused.sentence}")
    tell(
        f"{len(summary.registered)} registered, {len(summary.known)} known before, "
        f"{len(summary.refused)} refused"
    )
