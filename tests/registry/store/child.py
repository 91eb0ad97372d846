"""Other processes that work on a database: one that adds versions, one that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import event

from intrinsic.errors import AdapterExistsError
from intrinsic.registry.store.copies import Copies
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.versions import Versions
from tests.registry.store.making import record

COUNT = 30


async def add(where: str) -> list[str]:
    """Open the database and add versions one by one; return those that were added here."""
    added = []
    async with Database(where) as database:
        versions = Versions(database)
        for number in range(COUNT):
            try:
                new = await versions.add(record(f"sql@{number}"))
            except AdapterExistsError:
                continue
            added.append(new.id)
    return added


async def copy(where: str, root: str, source: str, point: str) -> None:
    """Add a version with a copy of its files, and be killed at that point."""
    async with Database(where) as database:
        if point == "before the commit":
            event.listen(database._engine, "commit", lambda _: Path(root).exists() and die())
        elif point == "after the commit":
            Copies._settle = die  # type: ignore[assignment]
        elif point == "before the rename":
            os.rename = die  # type: ignore[assignment]
        elif point == "after the rename":
            rename = os.rename
            os.rename = lambda *paths: die(rename(*paths))
        else:
            die_in_copyfile(point)
        await Copies(database, root).add(record(path=Path(source)))


def die_in_copyfile(point: str) -> None:
    copyfile = shutil.copyfile

    def copy_half(source: Path, target: Path) -> None:
        if target.name == "adapter_model.safetensors":
            target.write_bytes(source.read_bytes()[:10])
            die()
        copyfile(source, target)

    shutil.copyfile = die if point == "before the first file" else copy_half  # type: ignore[assignment]


def die(*_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    if sys.argv[1] == "copy":
        where, root, source, point = sys.argv[2:]
        anyio.run(copy, where, root, source, point)
        return
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(anyio.run(add, sys.argv[1])))


if __name__ == "__main__":
    main()
