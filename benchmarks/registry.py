"""Is the registry quick with many adapters?

    python -m benchmarks registry --json [--postgres URL]

- `register_per_s`: 1,000 adapters of 1 MiB in a folder, registered as `intrinsic adapters register
  DIR --recursive` does it: found, validated (config, header, shapes, finite values), digested and
  kept. Asked: at least 50. `cold_per_s` is the same after the system was told to forget the files,
  `copied_per_s` with copies through to the disk.
- `list_ms`: a page of 100 of 10,000 versions, by different filters and orders. Asked: below 20.
- `start_s`: a fresh process imports the catalog and opens one of 10,000 versions, whose files are
  nowhere; what it opens is listened to. Asked: below 1.
- `statistics_ms`: what noting a routed and a generated request adds to it (p99), while the task
  that writes them writes all the time. Asked: below 1, and none lost after a clean stop.

All of it on SQLite, and on PostgreSQL where a URL is given or a server is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
from sqlalchemy import create_engine, text

from benchmarks._registry_making import BASES, DOMAINS, fill, write_adapters
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.folders import examine_folder, register_examined
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.listing import ListQuery
from intrinsic.registry.store.usage import UsageLog


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure everything; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks registry")
    parser.add_argument("--adapters", type=int, default=1_000, help="in the folder")
    parser.add_argument("--bytes", type=int, default=2**20, help="of each of them")
    parser.add_argument("--versions", type=int, default=10_000, help="to list and to start with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000, help="whose use is noted")
    parser.add_argument("--postgres", metavar="URL", help="of a server where schemas may be made")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="registry-")))
        files = folder / "adapters"
        size = write_adapters(files, options.adapters, options.bytes, options.seed)
        found = {"sqlite": anyio.run(measure, options, files, size, str(folder / "registry.db"))}
        url = options.postgres or stack.enter_context(installed_server())
        if url:
            with schema(url) as where:
                found["postgresql"] = anyio.run(measure, options, files, size, where)
    main = found["sqlite"]
    return {
        **{key: main[key] for key in ("register_per_s", "list_ms", "start_s", "statistics_ms")},
        "adapters": options.adapters,
        "versions": options.versions,
        "seed": options.seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        **found,
    }


async def measure(
    options: argparse.Namespace, files: Path, size: int, where: str
) -> dict[str, Any]:
    """All figures of one database, which is empty."""
    registering = await register(options, files, size, where)
    async with Database(where) as database:
        await database.write(empty)
        began = time.perf_counter()
        await fill(database, options.versions, options.seed)
        filled_s = time.perf_counter() - began
    starting = start(options, where)
    async with AdapterCatalog(where) as catalog:
        listing = await lists(options, catalog)
        live = live_list(catalog)
    noting = await notes(options, where)
    return {
        "register_per_s": registering["warm_per_s"],
        "list_ms": listing["p50"],
        "start_s": starting["start_s"],
        "statistics_ms": noting["p99"],
        "registering": registering,
        "listing": listing | {"bulk_insert_s": filled_s},
        "starting": starting | live,
        "noting": noting,
    }


async def register(
    options: argparse.Namespace, files: Path, size: int, where: str
) -> dict[str, Any]:
    """The whole folder: from the page cache, from the disk, and with copies."""
    async with AdapterCatalog(where, files=files.with_name("copies")) as catalog:
        warm = [await register_once(options, catalog, files) for _ in range(options.rounds)]
        cold = []
        for _ in range(min(2, options.rounds)):
            forget(files)
            cold.append(await register_once(options, catalog, files))
        copied = await register_once(options, catalog, files, copy=True)
        for path in files.with_name("copies").glob("*/*"):
            path.unlink()
    return {
        "warm_per_s": options.adapters / statistics.median(warm),
        "cold_per_s": options.adapters / statistics.median(cold),
        "copied_per_s": options.adapters / copied,
        "bytes_each": size // options.adapters,
    }


async def register_once(
    options: argparse.Namespace, catalog: AdapterCatalog, files: Path, *, copy: bool = False
) -> float:
    """Register the folder, check that all of it is there, and forget it again."""
    began = time.perf_counter()
    summary = await register_examined(catalog, await examine_folder(files), copy=copy)
    spent = time.perf_counter() - began
    assert (len(summary.registered), summary.refused) == (options.adapters, ())
    assert len(catalog.live.list_adapters()) == options.adapters
    await catalog.database.write(empty)
    await catalog.refresh()
    return spent


def empty(connection: Any) -> None:  # noqa: ANN401
    """Remove all that is kept."""
    for name in ("usage", "history", "versions"):
        connection.execute(text(f"DELETE FROM {name}"))


def forget(files: Path) -> None:
    """Have the system drop what it keeps of the files in memory, where it can be told to."""
    for path in files.glob("*/*"):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def queries(random_: random.Random) -> dict[str, ListQuery]:
    """Filters of every kind; those with a value take another one each time."""
    domain, number = random_.choice(DOMAINS), random_.randrange(2_000)
    base = random_.choice(BASES)
    return {
        "all": ListQuery(),
        "active": ListQuery(active=True),
        "inactive, by time": ListQuery(active=False, sort="created", descending=True),
        "domain": ListQuery(domain=domain),
        "domain, by size": ListQuery(domain=domain, sort="bytes", descending=True),
        "base model": ListQuery(base_model=base, sort="version"),
        "trained here": ListQuery(trained_here=True),
        "one name": ListQuery(name=f"{domain}-{number:05}"),
        "names that begin so": ListQuery(name=f"{domain}-0*"),
        "names that hold it": ListQuery(name=f"*{number % 100:02}*", sort="created"),
        "all of it": ListQuery(active=True, domain=domain, base_model=base, name="*-0*"),
        "a later page": ListQuery(offset=random_.randrange(0, 9_900, 100), sort="domain"),
    }


async def lists(options: argparse.Namespace, catalog: AdapterCatalog) -> dict[str, Any]:
    """Every filter in turn, round after round."""
    random_ = random.Random(options.seed)
    seconds: dict[str, list[float]] = {}
    for round_ in range(1 + 10 * options.rounds):
        for name, query in queries(random_).items():
            began = time.perf_counter()
            page = await catalog.list(query)
            if round_:  # the first one warms up
                seconds.setdefault(name, []).append(time.perf_counter() - began)
            assert len(page.records) <= 100
    all_of_them = [one for some in seconds.values() for one in some]
    by_filter = {name: round(1e3 * statistics.median(some), 2) for name, some in seconds.items()}
    return milliseconds(all_of_them) | {"by_filter": by_filter}


def start(options: argparse.Namespace, where: str) -> dict[str, Any]:
    """A fresh process, several times; its parts are medians."""
    runs: list[dict[str, Any]] = []
    wall: list[float] = []
    for _ in range(options.rounds + 1):
        began = time.perf_counter()
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks._registry_start", where],
            stdout=subprocess.PIPE,
            check=True,
        )
        wall.append(time.perf_counter() - began)
        runs.append(json.loads(child.stdout))
    assert {one["versions"] for one in runs} == {options.versions}
    assert {one["adapter_files_opened"] for one in runs} == {0}
    assert not any(one["heavy"] for one in runs)
    parts = ("start_s", "imports_s", "open_s")
    return {key: statistics.median(one[key] for one in runs[1:]) for key in parts} | {
        "start_s_most": max(one["start_s"] for one in runs[1:]),
        "whole_process_s": statistics.median(wall[1:]),
        "adapter_files_opened": 0,
    }


def live_list(catalog: AdapterCatalog) -> dict[str, float]:
    """What routing asks at each request, and what the first request after a change pays."""
    key = catalog.live.list_adapters()[0].key
    again, changed = [], []
    for _ in range(20):
        catalog.live.set_active(key, True)
        began = time.perf_counter()
        catalog.live.list_adapters()
        between = time.perf_counter()
        catalog.live.list_adapters()
        changed.append(between - began)
        again.append(time.perf_counter() - between)
    return {
        "live_list_ms": 1e3 * statistics.median(again),
        "live_list_after_a_change_ms": 1e3 * statistics.median(changed),
    }


async def notes(options: argparse.Namespace, where: str) -> dict[str, Any]:
    """Note the use of random versions, with the usual writer and with one that never rests."""
    random_ = random.Random(options.seed)
    async with AdapterCatalog(where) as catalog:
        ids = [catalog.id_of(entry.key) or "" for entry in catalog.live.list_adapters()[:1_000]]
    found: dict[str, Any] = {}
    for name, flush_s in {"usual": 1.0, "busy": 1e-3}.items():
        async with Database(where) as database, UsageLog(database, flush_s=flush_s) as usage:
            seconds = [await note_one(usage, random_.choice(ids)) for _ in range(options.requests)]
        async with Database(where) as database, UsageLog(database) as usage:
            kept = await usage.usage_of(ids)
        expected = options.requests * (1 + len(found))
        routed = sum(one.routed for one in kept.values())
        generated = sum(one.generated for one in kept.values())
        assert (routed, generated) == (expected, expected), "some were lost"
        found[name] = milliseconds(seconds)
    return {**found["busy"], "usual": found["usual"], "lost": 0}


async def note_one(usage: UsageLog, version_id: str) -> float:
    """One request's notes, and a turn for the others."""
    began = time.perf_counter()
    usage.note_routed(version_id, 0.75)
    usage.note_generated(version_id, 64)
    spent = time.perf_counter() - began
    await anyio.lowlevel.checkpoint()
    return spent


def milliseconds(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, 99th percentile and the worst."""
    ordered = sorted(seconds)
    at_99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {
        "p50": 1e3 * statistics.median(ordered),
        "p99": 1e3 * at_99,
        "most": 1e3 * ordered[-1],
    }


@contextmanager
def installed_server() -> Iterator[str]:
    """A server of our own where PostgreSQL is installed, else nothing."""
    from tests.registry.store.postgres import find_binaries, server

    binaries = find_binaries()
    if binaries is None:
        yield ""
        return
    with server(binaries) as folder:
        yield f"postgresql://postgres@/postgres?host={folder}"


@contextmanager
def schema(url: str) -> Iterator[str]:
    """The URL of a fresh schema there, which goes again."""
    name = f"bench_{uuid4().hex}"
    plain = "postgresql" + url[url.index(":") :]
    engine = create_engine(plain.replace("postgresql:", "postgresql+psycopg:", 1))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()
