"""The options of `intrinsic adapters card NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intrinsic.cli.arguments import AdaptersDir, BackendName, Json, PluginsDir, Registry, Texts


def card_command(
    name: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")],
    description: Annotated[str | None, typer.Option(help="One sentence; '' takes it away.")] = None,
    domain: Annotated[str | None, typer.Option(help="The subject, in a word or two.")] = None,
    group: Annotated[str | None, typer.Option(help="At most one of a group is chosen.")] = None,
    threshold: Annotated[
        str | None, typer.Option(metavar="P", help="Least confidence, 0 to 1; 'none' for the rule.")
    ] = None,
    add_keyword: Annotated[Texts, typer.Option(help="May be repeated, as all of these.")] = None,
    remove_keyword: Annotated[Texts, typer.Option()] = None,
    add_example: Annotated[Texts, typer.Option(help="A query that it should answer.")] = None,
    remove_example: Annotated[Texts, typer.Option()] = None,
    examples_from: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Examples, one per line.")
    ] = None,
    add_negative: Annotated[Texts, typer.Option(help="Looks alike, but is not for it.")] = None,
    remove_negative: Annotated[Texts, typer.Option()] = None,
    add_must: Annotated[Texts, typer.Option(help="Words that make a query this one's.")] = None,
    remove_must: Annotated[Texts, typer.Option()] = None,
    add_never: Annotated[Texts, typer.Option(help="Words that make it another's.")] = None,
    remove_never: Annotated[Texts, typer.Option()] = None,
    suggest: Annotated[
        int | None, typer.Option(metavar="N", help="Let a plugin or the model write N examples.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write what was suggested.")] = False,
    model: Annotated[
        str | None, typer.Option(help="The model that suggests; default: the bundled.")
    ] = None,
    backend: BackendName = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    plugins: PluginsDir = None,
    json: Json = False,
) -> None:
    """Show an adapter's card, or edit it: what routing sees.

    In a registry it is the registry's own, and the adapter's files stay as they are.
    """
    import anyio

    from intrinsic.cli.card import run_card
    from intrinsic.cli.card_edit import CardEdit
    from intrinsic.cli.settings import folders_of, settings_of
    from intrinsic.config.place import find_place

    edit = CardEdit.of(
        fields={"description": description, "domain": domain, "group": group},
        threshold=threshold,
        added={
            "keywords": add_keyword,
            "examples": add_example,
            "negatives": add_negative,
            "must": add_must,
            "never": add_never,
        },
        removed={
            "keywords": remove_keyword,
            "examples": remove_example,
            "negatives": remove_negative,
            "must": remove_must,
            "never": remove_never,
        },
        examples_from=examples_from or (),
    )
    settings = settings_of(
        {
            "model": model,
            "backend": backend,
            "adapters": adapters_dir,
            "registry": registry,
            "plugins": folders_of(plugins),
        }
    )
    where = find_place(settings.project)
    if where is not None:
        from intrinsic.cli.registry_card import run_registered_card

        anyio.run(run_registered_card, where, name, edit, settings, suggest, yes, json)
        return
    anyio.run(run_card, name, edit, settings, suggest, yes, json)
