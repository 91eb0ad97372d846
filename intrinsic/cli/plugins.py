"""`intrinsic plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intrinsic.cli.output import print_json, print_table
from intrinsic.cli.session import load_plugins

if TYPE_CHECKING:
    from intrinsic.config import Settings


def print_plugins(settings: Settings, *, as_json: bool) -> None:
    """Print all plugins, and on standard error those that could not be loaded."""
    infos = load_plugins(settings).list_plugins()
    if as_json:
        print_json([info._asdict() for info in infos])
        return
    print_table(
        "plugins",
        ("name", "version", "source", "hooks"),
        [(i.name, i.version or "", str(i.source), ", ".join(i.hooks)) for i in infos],
    )
