"""A fresh process opens a registry: `python -m benchmarks._registry_start WHERE`, as JSON."""

from __future__ import annotations

import sys
import time

began = time.perf_counter()
opened: list[str] = []


def listen(event: str, arguments: tuple[object, ...]) -> None:
    """Keep the path of every file and folder that is opened."""
    if event in ("open", "os.listdir", "os.scandir"):
        opened.append(str(arguments[0]))


def main(where: str) -> dict[str, object]:
    """Open it, and say how long that took and what it touched."""
    import anyio

    from intrinsic.registry.catalog import AdapterCatalog

    imported = time.perf_counter()

    async def start() -> tuple[float, int, int]:
        async with AdapterCatalog(where) as catalog:
            return time.perf_counter(), len(catalog.live), len(catalog.live.list_adapters())

    ready, versions, active = anyio.run(start)
    return {
        "imports_s": imported - began,
        "open_s": ready - imported,
        "start_s": ready - began,
        "versions": versions,
        "active": active,
        "adapter_files_opened": sum("/nowhere/" in path for path in opened),
        "heavy": sorted({"torch", "transformers", "scipy", "alembic"} & set(sys.modules)),
    }


if __name__ == "__main__":
    import json

    sys.addaudithook(listen)
    print(json.dumps(main(sys.argv[1])))
