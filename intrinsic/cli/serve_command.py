"""`intrinsic serve` as it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anyio
import typer

from intrinsic.cli.arguments import (
    AdaptersDir,
    BackendName,
    Calibrated,
    Force,
    ModelName,
    PluginsDir,
    Registry,
    RouterName,
    Shadow,
    TopK,
)


def serve_command(
    host: Annotated[
        str | None, typer.Option(help="Address to listen at; default: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes any free one; default: 8000.")
    ] = None,
    model: ModelName = None,
    model_name: Annotated[
        str | None, typer.Option(help="What clients call the model; default: its own name.")
    ] = None,
    adapters_dir: AdaptersDir = None,
    registry: Registry = None,
    force: Force = False,
    plugins: PluginsDir = None,
    backend: BackendName = None,
    router: RouterName = None,
    top_k: TopK = None,
    calibration: Calibrated = None,
    shadow: Shadow = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Ask for no key; on a loopback address alone.")
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option(help="File of the two keys, made where it is not there.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    grace: Annotated[
        float | None,
        typer.Option(help="Seconds that running requests have when the server is stopped."),
    ] = None,
    stats_file: Annotated[
        Path | None, typer.Option(help="Where its statistics go when it ends.")
    ] = None,
) -> None:
    """Serve the model with its adapters over HTTP, until SIGTERM or Ctrl-C."""
    from intrinsic.cli.serve import run_serve
    from intrinsic.cli.settings import folders_of, settings_of

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
            "server.host": host,
            "server.port": port,
            "server.model_name": model_name,
            "server.auth": False if no_auth else None,
            "server.key_file": key_file,
            "server.log_format": log_format,
            "server.grace_s": grace,
            "server.stats_file": stats_file,
        }
    )
    anyio.run(run_serve, settings)
