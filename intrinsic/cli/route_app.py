"""The commands of `intrinsic route`: a text, or what is done with a file of labelled queries."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from typer.core import TyperGroup

from intrinsic.cli.arguments import (
    AdaptersDir,
    Calibrated,
    Json,
    PluginsDir,
    Registry,
    TopK,
    WordsRouterName,
)
from intrinsic.cli.settings import folders_of, settings_of

TEXT = "TEXT"
"""The command that a first argument means which is the name of no other."""


class TextGroup(TyperGroup):
    """A group whose first argument may be a text; after `--`, any text."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Put the command in front where there is none; `route TEXT --help` tells its options."""
        known = {name for name in self.commands if name != TEXT} | {"--help"}
        if args and args[0] not in known and args != [TEXT, "--help"]:
            args = [TEXT, *args]
        return super().parse_args(ctx, args)


route_app = typer.Typer(
    cls=TextGroup,
    help="Say which adapters fit a text, without loading a language model.",
    subcommand_metavar="TEXT | eval FILE | fit FILE",
    no_args_is_help=True,
)


@route_app.command(TEXT)
def text(
    text: Annotated[str, typer.Argument(help="The text; after '--' it may be 'eval' or 'fit'.")],
    explain: Annotated[bool, typer.Option("--explain", help="Show every candidate.")] = False,
    top_k: TopK = None,
    router: WordsRouterName = None,
    calibration: Calibrated = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    plugins: PluginsDir = None,
    json: Json = False,
) -> None:
    """Say which adapters fit a text: intrinsic route "how is asthma treated"."""
    from intrinsic.cli.route import run_route

    flags = _flags(adapters_dir, registry, plugins, router)
    settings = settings_of(flags | {"routing.top_k": top_k, "routing.calibration": calibration})
    anyio.run(partial(run_route, explained=explain, as_json=json), text, settings)


@route_app.command("eval")
def evaluate(
    file: Annotated[Path, typer.Argument(help='Lines {"text": "...", "adapter": "..." or null}.')],
    out: Annotated[
        Path | None, typer.Option(help="Folder of report and pictures; default: FILE-report.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least confidence; default: the router's.")
    ] = None,
    unknown_as_none: Annotated[
        bool, typer.Option("--unknown-as-none", help="No adapter fits queries of unknown ones.")
    ] = False,
    router: WordsRouterName = None,
    calibration: Calibrated = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    plugins: PluginsDir = None,
    json: Json = False,
) -> None:
    """Measure the router on labelled queries; writes report.json and two pictures."""
    from intrinsic.cli.route_eval import Evaluation, run_evaluation

    request = Evaluation(file, out, threshold, unknown_as_none)
    flags = _flags(adapters_dir, registry, plugins, router)
    settings = settings_of(flags | {"routing.calibration": calibration})
    anyio.run(run_evaluation, request, settings, json)


@route_app.command("fit")
def fit(
    file: Annotated[Path, typer.Argument(help='Lines {"text": "...", "adapter": "..." or null}.')],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("calibration.json"),
    router: WordsRouterName = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    plugins: PluginsDir = None,
    json: Json = False,
) -> None:
    """Fit confidences to labelled queries; tells the calibration error before and after."""
    from intrinsic.cli.route_fit import run_fit

    settings = settings_of(_flags(adapters_dir, registry, plugins, router))
    anyio.run(run_fit, file, out, settings, json)


def _flags(
    adapters_dir: Path | None,
    registry: str | None,
    plugins: list[Path] | None,
    router: str | None,
) -> dict[str, object]:
    """What all three have."""
    return {
        "adapters": adapters_dir,
        "registry": registry,
        "plugins": folders_of(plugins),
        "routing.router": router,
    }
