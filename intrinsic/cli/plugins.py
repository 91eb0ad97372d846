"""`intrinsic plugins`."""

from __future__ import annotations

from pathlib import Path

from intrinsic.cli.output import print_json, print_table, tell
from intrinsic.wiring import make_plugins


def print_plugins(folders: tuple[Path, ...], *, as_json: bool) -> None:
    """Print all plugins, and on standard error those that could not be loaded."""
    found = make_plugins(folders)
    for problem in found.problems:
        tell(f"intrinsic: {problem}")
    infos = found.list_plugins()
    if as_json:
        print_json([info._asdict() for info in infos])
        return
    print_table(
        "plugins",
        ("name", "version", "source", "hooks"),
        [(i.name, i.version or "", str(i.source), ", ".join(i.hooks)) for i in infos],
    )
