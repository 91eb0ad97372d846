"""The commands of `intrinsic adapters` that work on a registry."""

from __future__ import annotations

from collections.abc import Callable

import typer

from intrinsic.cli.registry_compare import compare_command
from intrinsic.cli.registry_feedback import prefer_command, rate_command
from intrinsic.cli.registry_files import export_command, rescan_command, verify_command
from intrinsic.cli.registry_list import list_command
from intrinsic.cli.registry_register import register_command
from intrinsic.cli.registry_show import history_command, show_command
from intrinsic.cli.registry_switch import (
    activate_command,
    deactivate_command,
    delete_command,
    rename_command,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "register": register_command,
    "list": list_command,
    "show": show_command,
    "history": history_command,
    "activate": activate_command,
    "deactivate": deactivate_command,
    "compare": compare_command,
    "rate": rate_command,
    "prefer": prefer_command,
    "rename": rename_command,
    "delete": delete_command,
    "verify": verify_command,
    "export": export_command,
    "rescan": rescan_command,
}


def add_registry_commands(app: typer.Typer) -> None:
    """Add them in the order in which the help shows them."""
    for name, command in COMMANDS.items():
        app.command(name)(command)
