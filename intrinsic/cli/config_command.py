"""`intrinsic config show`, `intrinsic config check` and `intrinsic init`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intrinsic.cli.arguments import Json

if TYPE_CHECKING:
    from intrinsic.config.checking import Checked

config_app = typer.Typer(
    help="Show the settings and where they came from, and check what they name.",
    no_args_is_help=True,
)


@config_app.command("show")
def show_command(json: Json = False) -> None:
    """Show every setting with where it came from; secrets are hidden."""
    from intrinsic.cli.output import print_json, print_table
    from intrinsic.cli.settings import settings_of

    settings = settings_of({})
    if json:
        print_json({one.key.path: {"value": one.plain, "from": one.origin} for one in settings})
        return
    rows = [(one.key.path, one.text, one.origin) for one in settings]
    print_table("settings", ("key", "value", "from"), rows)


@config_app.command("check")
def check_command(json: Json = False) -> None:
    """Look at everything that the settings name, without loading weights; exit code 1 if wrong."""
    import anyio

    from intrinsic.cli.output import print_json, tell, write

    found = anyio.run(_checked)
    if json:
        problems = [
            {"key": one.path, "from": one.origin, "problem": one.message} for one in found.faults
        ]
        print_json(asdict(found) | {"faults": problems})
    else:
        for one in found.faults:
            write(one.sentence)
        for line in found.looked_at:
            tell(f"looked at {line}")
        for line in found.notes:
            tell(f"note: {line}")
        count = len(found.faults)
        tell(f"{count} problem{'s' * (count > 1)}" if count else "nothing is wrong")
    raise typer.Exit(1 if found.faults else 0)


def init_command(
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
) -> None:
    """Write intrinsic.toml into this folder: every setting with its default, commented."""
    from intrinsic.cli.output import tell
    from intrinsic.config.layers import PROJECT_FILE
    from intrinsic.config.template import template
    from intrinsic.errors import ConfigError
    from intrinsic.routing.cache_folder import write_whole

    file = Path(PROJECT_FILE)
    if force:
        write_whole(file, template().encode())
    else:
        try:
            with file.open("x", encoding="utf-8") as made:
                made.write(template())
        except FileExistsError:
            raise ConfigError(f"{file} is there already; replace it with --force") from None
    tell(f"{file} is written; 'intrinsic config show' tells what is in force")


async def _checked() -> Checked:
    from intrinsic.cli.registry_place import asked_place
    from intrinsic.config.checking import Check
    from intrinsic.config.loading import examine_settings

    settings, faults = examine_settings()
    found = await Check(settings, asked_place).run()
    found.faults[:0] = faults
    return found
