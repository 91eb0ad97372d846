"""The commands of `intrinsic`, and how their errors are told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import anyio
import typer

from intrinsic.cli.arguments import (
    AdaptersDir,
    BackendName,
    Calibrated,
    Force,
    Json,
    ModelName,
    PluginsDir,
    Registry,
    RouterName,
    Shadow,
    TopK,
)
from intrinsic.cli.card_command import card_command
from intrinsic.cli.config_command import config_app, init_command
from intrinsic.cli.ending import run_command
from intrinsic.cli.hypernet_command import hypernet_app
from intrinsic.cli.output import replace_what_cannot_be_written
from intrinsic.cli.plugin_log import failures_in_a_line, tell_error
from intrinsic.cli.registry_commands import add_registry_commands
from intrinsic.cli.route_app import route_app
from intrinsic.cli.serve_command import serve_command
from intrinsic.cli.train_command import train_command

app = typer.Typer(
    name="intrinsic",
    help="Route each request to the right LoRA adapters and apply them to a live model. "
    "What an option does not say, the settings do: see 'intrinsic config show'.",
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
app.command("serve")(serve_command)
app.command("train")(train_command)
app.add_typer(hypernet_app, name="hypernet")
app.command("init")(init_command)
app.add_typer(config_app, name="config")


@app.command()
def demo(json: Json = False) -> None:
    """Answer four questions with the adapters that fit, and one that none fits."""
    from intrinsic.cli.demo import run_demo

    anyio.run(run_demo, json)


@app.command()
def ask(
    text: Annotated[str, typer.Argument(help="The question.")],
    model: ModelName = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    force: Force = False,
    top_k: TopK = None,
    router: RouterName = None,
    calibration: Calibrated = None,
    explain: Annotated[bool, typer.Option(help="Show what the router thought.")] = False,
    no_adapt: Annotated[bool, typer.Option(help="Ask the base model.")] = False,
    shadow: Shadow = None,
    max_tokens: Annotated[int | None, typer.Option(help="Length of the answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes what is drawn.")] = None,
    plugins: PluginsDir = None,
    backend: BackendName = None,
    json: Json = False,
) -> None:
    """Answer one question under the mixture that fits it, streaming."""
    from intrinsic.cli.ask import Question, run_ask
    from intrinsic.cli.settings import folders_of, settings_of

    question = Question(text=text, adapt=not no_adapt, explain=explain)
    settings = settings_of(
        {
            "model": model,
            "backend": backend,
            "adapters": adapters_dir,
            "registry": registry,
            "plugins": folders_of(plugins),
            "routing.router": router,
            "routing.top_k": top_k,
            "routing.calibration": calibration,
            "routing.force_adapters": force or None,
            "bus.shadow": shadow,
            "generation.max_new_tokens": max_tokens,
            "generation.temperature": temperature,
            "generation.seed": seed,
        }
    )
    anyio.run(run_ask, question, settings, json)


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
    from intrinsic.cli.settings import folders_of, settings_of
    from intrinsic.lora import MergeOptions

    request = MergeRequest(
        mixture=tuple(mixture),
        out=out,
        method=method,
        options=MergeOptions(density=density, seed=seed, rank=rank, dtype=dtype),
        force=force,
    )
    settings = settings_of(
        {"adapters": adapters_dir, "registry": registry, "plugins": folders_of(plugins)}
    )
    run_merge(request, settings, as_json=json)


@app.command()
def plugins(folders: PluginsDir = None, json: Json = False) -> None:
    """List the plugins: name, version, source, hooks."""
    from intrinsic.cli.plugins import print_plugins
    from intrinsic.cli.settings import folders_of, settings_of

    print_plugins(settings_of({"plugins": folders_of(folders)}), as_json=json)


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
