"""The commands of `intrinsic`, and how their errors are told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import anyio
import typer

from intrinsic.cli.arguments import AdaptersDir, Calibrated, Json, PluginsDir, Registry, RouterName
from intrinsic.cli.card_command import card_command
from intrinsic.cli.ending import run_command
from intrinsic.cli.hypernet_command import hypernet_app
from intrinsic.cli.output import replace_what_cannot_be_written
from intrinsic.cli.plugin_log import failures_in_a_line, tell_error
from intrinsic.cli.registry_commands import add_registry_commands
from intrinsic.cli.route_app import route_app
from intrinsic.cli.train_command import train_command

app = typer.Typer(
    name="intrinsic",
    help="Route each request to the right LoRA adapters and apply them to a live model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
adapters_app = typer.Typer(
    help="Register adapters, look at them, switch them on and off, edit their cards, merge them.",
    no_args_is_help=True,
)
app.add_typer(adapters_app, name="adapters")
app.add_typer(route_app, name="route")
add_registry_commands(adapters_app)
adapters_app.command("card")(card_command)
app.command("train")(train_command)
app.add_typer(hypernet_app, name="hypernet")


@app.command()
def demo(json: Json = False) -> None:
    """Answer four questions with the adapters that fit, and one that none fits."""
    from intrinsic.cli.demo import run_demo

    anyio.run(run_demo, json)


@app.command()
def ask(
    text: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[
        str | None, typer.Option(help="Path or hub name of a causal model; default: the bundled.")
    ] = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    force: Annotated[
        bool, typer.Option(help="Use adapters that may be for another model, if shapes fit.")
    ] = False,
    top_k: Annotated[int, typer.Option(help="Mix at most this many adapters.")] = 2,
    router: RouterName = "hybrid",
    calibration: Calibrated = None,
    explain: Annotated[bool, typer.Option(help="Show what the router thought.")] = False,
    no_adapt: Annotated[bool, typer.Option(help="Ask the base model.")] = False,
    shadow: Annotated[bool, typer.Option(help="Route and record, apply nothing.")] = False,
    max_tokens: Annotated[int, typer.Option(help="Length of the answer, in tokens.")] = 120,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Fixes what is drawn.")] = None,
    plugins: PluginsDir = None,
    backend: Annotated[str, typer.Option(help="transformers, or a plugin's.")] = "transformers",
    json: Json = False,
) -> None:
    """Answer one question under the mixture that fits it, streaming."""
    from intrinsic.backends import GenerationOptions
    from intrinsic.cli.ask import Question, run_ask
    from intrinsic.cli.registry_place import asked_place
    from intrinsic.cli.session import SessionOptions

    question = Question(
        text=text,
        adapt=not no_adapt,
        shadow=shadow,
        explain=explain,
        decoding=GenerationOptions(max_new_tokens=max_tokens, temperature=temperature, seed=seed),
    )
    session = SessionOptions(
        model,
        adapters_dir,
        router,
        top_k,
        tuple(plugins or ()),
        backend,
        calibration,
        asked_place(registry, adapters_dir),
        force,
    )
    anyio.run(run_ask, question, session, json)


@adapters_app.command("merge")
def merge_adapters(
    mixture: Annotated[
        list[str], typer.Argument(metavar="NAME=WEIGHT...", help="Adapters with their weights.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make; its name is the adapter's.")],
    method: Annotated[
        str, typer.Option(help="exact, svd, ties, dare, dare_ties, magnitude_prune, or a plugin's.")
    ] = "exact",
    rank: Annotated[
        int | None, typer.Option(help="Store at most this rank; default: sum of the ranks.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="Share of values that pruning or dropping keeps.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes what dare drops; default: 0.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16 or float64.")] = "float32",
    force: Annotated[bool, typer.Option(help="Replace the adapter that is in the folder.")] = False,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    plugins: PluginsDir = None,
    json: Json = False,
) -> None:
    """Merge adapters into one and save it as a PEFT checkpoint."""
    from intrinsic.cli.merge import MergeRequest, run_merge
    from intrinsic.lora import MergeOptions

    request = MergeRequest(
        mixture=tuple(mixture),
        out=out,
        method=method,
        options=MergeOptions(density=density, seed=seed, rank=rank, dtype=dtype),
        force=force,
        adapters_dir=adapters_dir,
        plugin_folders=tuple(plugins or ()),
        registry=registry,
    )
    run_merge(request, as_json=json)


@app.command()
def plugins(folders: PluginsDir = None, json: Json = False) -> None:
    """List the plugins: name, version, source, hooks."""
    from intrinsic.cli.plugins import print_plugins

    print_plugins(tuple(folders or ()), as_json=json)


def main() -> None:
    """Entry point of the command; an error of ours is one sentence and exit code 1."""
    replace_what_cannot_be_written()
    with failures_in_a_line():
        _register_commands()
        code = run_command(app)
    sys.exit(code)


def _register_commands() -> None:
    from intrinsic.plugins import PluginManager

    commands = PluginManager.with_builtins()
    commands.load_entry_points()
    for error in commands.call_sync("register_commands", app=app).errors:
        tell_error(error)
