"""Another process that works on a database: waits for a line, then does what it is told."""

from __future__ import annotations

import json
import sys

import anyio

from intrinsic.errors import AdapterExistsError
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


def main() -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(anyio.run(add, sys.argv[1])))


if __name__ == "__main__":
    main()
