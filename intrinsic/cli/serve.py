"""`intrinsic serve`: what it says before, while and after it serves."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.panel import Panel

from intrinsic.cli.output import OurConsole, tell
from intrinsic.cli.session import check_flags, loading, tell_left_out
from intrinsic.config import Settings
from intrinsic.config.layers import user_file
from intrinsic.errors import ConfigError
from intrinsic.extras import how_to_install

if TYPE_CHECKING:
    from intrinsic.server.run import Prepared
    from intrinsic.server.service import Service


async def run_serve(settings: Settings) -> None:
    """Serve until a signal says to stop. Raises `ConfigError` for what cannot be served."""
    try:
        from intrinsic.server.logs import log_to_standard_error
        from intrinsic.server.run import prepare, run_service
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("fastapi", "starlette", "uvicorn",
                                                    "prometheus_client"):  # fmt: skip
            raise
        raise ConfigError(
            f"'intrinsic serve' needs {error.name}, which cannot be imported; "
            + how_to_install("serve")
        ) from None
    check_flags(settings)
    own = user_file(os.environ)
    prepared = prepare(settings, None if own is None else own.with_name("keys.json"))
    log_to_standard_error(settings.server_options().log_format)
    _tell_keys(prepared)
    with ExitStack() as bar:
        step = bar.enter_context(loading("loading", ("model", "router")))

        def ready(service: Service) -> None:
            bar.close()
            _tell_ready(service, prepared)

        await run_service(settings, prepared, ready=ready, tell=tell_left_out, loaded=step)
    tell("intrinsic: stopped")


def _tell_keys(prepared: Prepared) -> None:
    """New keys are shown once, here."""
    if not prepared.new_keys or prepared.keys is None:
        return
    tell(
        f"new keys, which are shown this once and kept in {prepared.key_file}:\n"
        f"  admin key  {prepared.keys.admin_key}\n"
        f"  API key    {prepared.keys.api_key}"
    )


def _tell_ready(service: Service, prepared: Prepared) -> None:
    """Say where it listens, and how to ask."""
    count = len(service.system.registry.list_adapters())
    adapters = "1 adapter" if count == 1 else f"{count} adapters"
    head = f"{service.model_name} with {adapters} at {prepared.url}"
    ask = _curl(prepared)
    console = OurConsole(stderr=True)
    if not console.is_terminal:
        tell(f"intrinsic serves {head}\n{ask}")
        return
    more = f"documentation: {prepared.url}/docs    stop: Ctrl-C"
    text = f"[bold]{escape(head)}[/bold]\n\n{escape(ask)}\n\n[dim]{escape(more)}[/dim]"
    console.print(Panel(text, title="intrinsic", expand=False))


def _curl(prepared: Prepared) -> str:
    key = "" if prepared.keys is None else '  -H "Authorization: Bearer $API_KEY" \\\n'
    return (
        f"curl {prepared.url}/v1/chat/completions \\\n{key}"
        "  -H 'Content-Type: application/json' \\\n"
        """  -d '{"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}'"""
    )
