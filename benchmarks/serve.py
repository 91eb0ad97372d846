"""The service beside the system without it: throughput, time to first token, and what is left.

    python -m benchmarks serve --json

`intrinsic serve` over the bundled model, in a process of its own, asked over the loopback by a
client that does the least a client can. A second process has the same system without HTTP: its
time to first token is what the service's is compared with, request by request in turn, and its
answers are what the service's must be.

- `concurrent_vs_serial`: 32 streaming clients at once, 8 mixtures, over the same requests one by
  one through the same server, in turn; the median of the rounds.
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
from benchmarks._serve_wire import Answer, Wire
from benchmarks._timing import spread

_SETTLE_S = 5.0


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure all three parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks serve")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
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
    asked = requests(options.clients, options.tokens)
    first = {
        kind: asyncio.run(_first_tokens(served, direct, kind == "routed", options.pairs))
        for kind in ("named", "routed")
    }
    batches = asyncio.run(_throughput(served, asked, options.rounds))
    checked = _check(asked, batches, references)
    left = _leaks(served, references, options)
    outcome: Outcome = left.pop("outcome")
    serial, concurrent = (statistics.median(batches[kind][0]) for kind in ("serial", "concurrent"))
    return {
        "concurrent_vs_serial": serial / concurrent,
        "ttft_overhead_ms": max(found["overhead_ms"] for found in first.values()),
        "errors": len(outcome.errors) + checked["errors"],
        "wrong_answers": len(outcome.wrong) + checked["wrong"],
        "leaked_bytes": left.pop("leaked_bytes"),
        "leaked_tasks": left.pop("leaked_tasks"),
        "throughput": {
            "serial_s": serial,
            "concurrent_s": concurrent,
            "tokens": checked["tokens"],
            "serial_tokens_per_s": checked["tokens"] / serial,
            "concurrent_tokens_per_s": checked["tokens"] / concurrent,
            "rounds": options.rounds,
        },
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
    served: Server, asked: Sequence[Request], rounds: int
) -> dict[str, tuple[list[float], list[Answer]]]:
    found: dict[str, tuple[list[float], list[Answer]]] = {
        "serial": ([], []),
        "concurrent": ([], []),
    }
    await together(served.port, served.admin_key, asked)
    for _ in range(rounds):
        for name, work in (("serial", one_by_one), ("concurrent", together)):
            started = time.perf_counter()
            answers = await work(served.port, served.admin_key, asked)
            found[name][0].append(time.perf_counter() - started)
            found[name][1].extend(answers)
    return found


def _check(
    asked: Sequence[Request],
    batches: dict[str, tuple[list[float], list[Answer]]],
    references: References,
) -> dict[str, int]:
    answers = [answer for _, found in batches.values() for answer in found]
    expected = [references.of(request) for request in asked]
    pairs = [(answer, expected[number % len(asked)]) for number, answer in enumerate(answers)]
    return {
        "errors": sum(answer.status != 200 for answer, _ in pairs),
        "wrong": sum(answer.status == 200 and answer.text not in texts for answer, texts in pairs),
        "tokens": sum(answer.tokens for answer in answers[: len(asked)]),
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
