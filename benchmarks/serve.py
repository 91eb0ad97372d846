"""The service beside the system without it: throughput, time to first token, and what is left.

    python -m benchmarks serve --json

`intrinsic serve` over the bundled model, in a process of its own, asked over the loopback by a
client that does the least a client can. A second process has the same system without HTTP: its
time to first token is what the service's is compared with, request by request in turn, and its
answers are what the service's must be.

- `concurrent_vs_serial`: 32 streaming clients at once, 8 mixtures, three requests each, over the
  same requests one by one through the same server, in turn; medians of the rounds. `burst` is the
  same with one request each, whose batch grows smaller as the short answers end.
- `ttft_overhead_ms`: the larger of two medians, of requests that are routed and of requests that
  name their mixture: time to the first piece of text at the client, less that without HTTP.
- `errors`, `wrong_answers`, `leaked_bytes`, `leaked_tasks`: 500 requests, of which every tenth
  leaves mid-stream and every twentieth names an adapter that is not there, while adapters are
  loaded and unloaded. `leaked_bytes` is what Python objects and tensors take more after it than
  before it, after the same once as a warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._serve_load import (
    Outcome,
    References,
    Request,
    churn,
    one_by_one,
    requests,
    together,
)
from benchmarks._serve_process import Direct, Server, server
from benchmarks._serve_wire import Wire
from benchmarks._timing import spread

_SETTLE_S = 2.0


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure all three parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks serve")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--each", type=int, default=3, help="requests of a client")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=100, help="of times to first token")
    parser.add_argument("--requests", type=int, default=500)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        direct = Direct(Path(name))
        try:
            with server(Path(name)) as served:
                return _measure(served, direct, options)
        finally:
            direct.close()


def _measure(served: Server, direct: Direct, options: argparse.Namespace) -> dict[str, Any]:
    references = References(direct)
    first = {
        kind: asyncio.run(_first_tokens(served, direct, kind == "routed", options.pairs))
        for kind in ("named", "routed")
    }
    works = {
        name: asyncio.run(_throughput(served, references, each, options))
        for name, each in (("throughput", options.each), ("burst", 1))
    }
    left = _leaks(served, references, options)
    outcome: Outcome = left.pop("outcome")
    return {
        "concurrent_vs_serial": works["throughput"]["concurrent_vs_serial"],
        "ttft_overhead_ms": max(found["overhead_ms"] for found in first.values()),
        "errors": len(outcome.errors) + sum(work.pop("errors") for work in works.values()),
        "wrong_answers": len(outcome.wrong) + sum(work.pop("wrong") for work in works.values()),
        "leaked_bytes": left.pop("leaked_bytes"),
        "leaked_tasks": left.pop("leaked_tasks"),
        **works,
        "time_to_first_token": first,
        "churn": {
            "seconds": outcome.seconds,
            "completed": outcome.completed,
            "left": outcome.left,
            "refused": outcome.refused,
            "switches": outcome.switches,
            **left,
        },
        "what_went_wrong": [*outcome.errors, *outcome.wrong][:5],
    }


async def _first_tokens(served: Server, direct: Direct, routed: bool, pairs: int) -> dict[str, Any]:
    """The same request with and without the service, in turn; the first pairs warm up."""
    warm_up = 10
    wire = Wire(served.port, served.admin_key)
    with_ms, without_ms = [], []
    for named in requests(pairs + warm_up, 2):
        request = Request(named.question, None, 2) if routed else named
        with_ms.append((await wire.chat(request.body)).first_ms)
        without_ms.append(direct.ask(request.asked)["first_ms"])
    await wire.close()
    with_ms, without_ms = with_ms[warm_up:], without_ms[warm_up:]
    overhead = [a - b for a, b in zip(with_ms, without_ms, strict=True)]
    return {
        "overhead_ms": statistics.median(overhead),
        "service_ms": spread(with_ms),
        "without_ms": spread(without_ms),
        "difference_ms": spread(overhead),
        "pairs": pairs,
    }


async def _throughput(
    served: Server, references: References, each: int, options: argparse.Namespace
) -> dict[str, Any]:
    """The same requests one by one and by all clients at once, in turn; a first round warms up."""
    port, key = served.port, served.admin_key
    asked = requests(options.clients * each, options.tokens)
    at_once = partial(together, clients=options.clients)
    seconds: dict[str, list[float]] = {"serial": [], "concurrent": []}
    answers = await at_once(port, key, asked)
    for _ in range(options.rounds):
        for name, work in (("serial", one_by_one), ("concurrent", at_once)):
            started = time.perf_counter()
            answers += await work(port, key, asked)
            seconds[name].append(time.perf_counter() - started)
    serial, concurrent = (statistics.median(found) for found in seconds.values())
    tokens = sum(answer.tokens for answer in answers[: len(asked)])
    right = [references.of(request) for request in asked]
    return {
        "concurrent_vs_serial": serial / concurrent,
        "serial_s": serial,
        "concurrent_s": concurrent,
        "serial_tokens_per_s": tokens / serial,
        "concurrent_tokens_per_s": tokens / concurrent,
        "requests": len(asked),
        "rounds": options.rounds,
        "errors": sum(answer.status != 200 for answer in answers),
        "wrong": sum(
            answer.status == 200 and answer.text not in right[number % len(asked)]
            for number, answer in enumerate(answers)
        ),
    }


def _leaks(served: Server, references: References, options: argparse.Namespace) -> dict[str, Any]:
    asked = requests(options.requests, options.tokens // 2)
    for number, request in enumerate(asked):
        references.of(request, active=number % 10 == 5)
    served.trace_memory()
    looks = []
    for _ in range(2):
        work = churn(served.port, served.admin_key, asked, references, clients=options.clients // 2)
        outcome = asyncio.run(work)
        time.sleep(_SETTLE_S)
        looks.append(served.look())
    before, after = looks
    more = {name: after[name] - before[name] for name in before}
    return {
        "outcome": outcome,
        "leaked_bytes": max(0, more["python_bytes"] + more["tensor_bytes"]),
        "leaked_tasks": max(0, more["tasks"]),
        "leaked_threads": max(0, more["threads"]),
        "leases": after["leases"],
        "resident_bytes": after["resident_bytes"],
        "resident_more_bytes": more["resident_bytes"],
        "adapters_more_bytes": more["tier_bytes"],
    }
