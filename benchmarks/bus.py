"""How fast is the bus, with every promise switched on, beside bubus in the same process?

    python -m benchmarks bus --json

Main figure: one publisher publishes events one after the other to one async handler and awaits each
report; creating the event is part of it, for both buses. Rounds of ours, of bubus and of a bare
anyio task group per event take turns; rates are medians over the rounds, p50 and p99 are over all
events of all rounds. Ours runs with the defaults: timeouts, session order, bounds, isolation,
statistics, injection log and dead letters. bubus runs as documented, `await bus.dispatch(event)`,
with its log level at CRITICAL and no write-ahead log.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import platform
import random
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import anyio

from intrinsic.bus import BusOptions, MemoryBus
from intrinsic.errors import BusFullError
from intrinsic.events import InjectionChannel, MemoryEvent

LORA = InjectionChannel.DYNAMIC_LORA
HANG_TIMEOUT_S = 0.05

Publish = Callable[[str, str], Awaitable[object]]
"""Create an event of (text, session), publish it, and await its handlers."""


@dataclass
class Sample:
    """Latencies of some events, and how long all of them took together."""

    latencies_s: list[float]
    wall_s: float

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.wall_s


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure everything; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks bus")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=5_000, help="of ours, per round")
    parser.add_argument("--rival-events", type=int, default=300, help="of bubus, per round")
    parser.add_argument("--scenario-events", type=int, default=10_000, help="of the largest one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    options = parser.parse_args(argv)
    logging.getLogger("intrinsic.bus").setLevel(logging.CRITICAL)
    return anyio.run(measure, options, backend=options.backend)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the rounds, then the scenarios."""
    random_ = random.Random(options.seed)
    samples: dict[str, list[Sample]] = {"intrinsic": [], "task group": [], "bubus": []}
    rival = None if options.backend == "trio" else rival_bus()
    async with MemoryBus() as bus:
        bus.register_handler(LORA, handle)

        async def publish(text: str, session: str) -> None:
            await bus.publish(MemoryEvent.from_text(text, session_id=session))

        contenders: list[tuple[str, Publish, int]] = [
            ("intrinsic", publish, options.events),
            ("task group", bare, options.events),
        ]
        if rival is not None:
            contenders.append(("bubus", rival.publish, options.rival_events))
        for _, contender, _ in contenders:
            await one_after_the_other(contender, 50, random_)
        for _ in range(options.rounds):
            random_.shuffle(contenders)
            for name, contender, events in contenders:
                samples[name].append(await one_after_the_other(contender, events, random_))
        assert bus.statistics().delivered == bus.statistics().published
    ours = summary(samples["intrinsic"])
    result: dict[str, Any] = {
        "events_per_s": ours["events_per_s"],
        "vs_bubus": None,
        "p50_us": ours["p50_us"],
        "p99_us": ours["p99_us"],
        "rounds": options.rounds,
        "seed": options.seed,
        "backend": options.backend,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
    }
    scenarios: dict[str, Any] = {
        "one_handler": ours,
        "bare_task_group": summary(samples["task group"]),
    }
    if rival is not None:
        ratios = [
            mine.per_s / theirs.per_s
            for mine, theirs in zip(samples["intrinsic"], samples["bubus"], strict=True)
        ]
        result["vs_bubus"] = round(statistics.median(ratios), 1)
        scenarios["bubus_one_handler"] = summary(samples["bubus"])
        await rival.stop()
    runs = range(max(1, options.rounds // 2))
    most = options.scenario_events
    scenarios["handlers_100"] = summary([await hundred_handlers(most // 100) for _ in runs])
    scenarios["sessions_1000"] = summary([await thousand_sessions(random_, most) for _ in runs])
    scenarios["full_queue"] = summary([await full_queue(random_, most // 2) for _ in runs])
    scenarios["one_hanging_of_10"] = summary([await one_hanging_of_ten(most // 100) for _ in runs])
    return {**result, "scenarios": scenarios}


async def handle(event: object) -> int:
    """What every handler of every bus does."""
    return 1


async def bare(text: str, session: str) -> None:
    """No bus at all: what a task group per event costs."""
    event = MemoryEvent.from_text(text, session_id=session)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(handle, event)


@dataclass
class Rival:
    """bubus, used as its documentation says."""

    publish: Publish
    stop: Callable[[], Awaitable[None]]


def rival_bus() -> Rival | None:
    """A bubus with one handler, or None where it is not installed."""
    try:
        import bubus
    except ImportError:
        return None
    logging.getLogger("bubus").setLevel(logging.CRITICAL)

    class TextEvent(bubus.BaseEvent):  # type: ignore[misc]
        text: str
        session_id: str

    bus = bubus.EventBus()
    bus.on(TextEvent, handle)

    async def publish(text: str, session: str) -> None:
        await bus.dispatch(TextEvent(text=text, session_id=session))

    return Rival(publish, lambda: bus.stop(clear=True))


async def one_after_the_other(publish: Publish, events: int, random_: random.Random) -> Sample:
    """One publisher, each event awaited before the next."""
    sessions = [f"session {random_.randrange(1_000)}" for _ in range(events)]
    latencies = []
    gc.collect()
    began = perf_counter()
    for session in sessions:
        start = perf_counter()
        await publish("What is a tort?", session)
        latencies.append(perf_counter() - start)
    return Sample(latencies, perf_counter() - began)


async def hundred_handlers(events: int) -> Sample:
    """100 async handlers on one channel, side by side."""
    async with MemoryBus() as bus:
        for _ in range(100):
            bus.register_handler(LORA, handle)
        latencies = []
        began = perf_counter()
        for _ in range(events):
            start = perf_counter()
            report = await bus.publish(MemoryEvent.from_text("x"))
            latencies.append(perf_counter() - start)
            assert len(report.results) == 100
        return Sample(latencies, perf_counter() - began)


async def thousand_sessions(random_: random.Random, events: int) -> Sample:
    """1,000 sessions at once, their events mixed; the latency counts the waiting for the turn."""
    sessions = [f"session {number % 1_000}" for number in range(events)]
    random_.shuffle(sessions)
    stopwatch = Stopwatch()
    last: dict[str | None, int] = {}

    async def in_order(event: MemoryEvent) -> None:
        number = int(event.text)
        assert number > last.get(event.context.session_id, -1)
        last[event.context.session_id] = number
        stopwatch.stop(event)

    async with MemoryBus(BusOptions(max_queued=events)) as bus:
        bus.register_handler(LORA, in_order)
        began = perf_counter()
        for number, session in enumerate(sessions):
            bus.publish_nowait(stopwatch.start(str(number), session))
    return stopwatch.sample(began, events)


async def full_queue(random_: random.Random, events: int, queue: int = 100) -> Sample:
    """The queue is filled up before every publish; the latency counts the way through it."""
    stopwatch = Stopwatch()

    async def stop(event: MemoryEvent) -> None:
        stopwatch.stop(event)

    async with MemoryBus(BusOptions(max_queued=queue, max_in_flight=10)) as bus:
        bus.register_handler(LORA, stop)
        began = perf_counter()
        for _ in range(events):
            event = stopwatch.start("x", f"session {random_.randrange(1_000)}")
            try:
                bus.publish_nowait(event)
            except BusFullError:
                await bus.publish(event)
    assert bus.statistics().refused
    return stopwatch.sample(began, events)


async def one_hanging_of_ten(events: int) -> Sample:
    """One of ten handlers hangs; the latency is that of the last healthy one of each event."""
    stopwatch = Stopwatch()
    ended: dict[str, int] = {}

    async def healthy(event: MemoryEvent) -> None:
        ended[event.id] = ended.get(event.id, 0) + 1
        if ended[event.id] == 9:
            stopwatch.stop(event)

    async def hanging(event: MemoryEvent) -> None:
        await anyio.sleep_forever()

    async with MemoryBus() as bus:
        bus.register_handler(LORA, hanging, timeout_s=HANG_TIMEOUT_S)
        for _ in range(9):
            bus.register_handler(LORA, healthy)

        async def publish() -> None:
            report = await bus.publish(stopwatch.start("x", None))
            assert [result.ok for result in report.results] == [False] + [True] * 9

        began = perf_counter()
        for _ in range(events // 10):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(publish)
        return stopwatch.sample(began, events // 10 * 10)


class Stopwatch:
    """Times events from their creation to a point in a handler."""

    def __init__(self) -> None:
        self.began_at: dict[str, float] = {}
        self.latencies: list[float] = []

    def start(self, text: str, session: str | None) -> MemoryEvent:
        """Create an event, whose time starts now."""
        start = perf_counter()
        event = MemoryEvent.from_text(text, session_id=session)
        self.began_at[event.id] = start
        return event

    def stop(self, event: MemoryEvent) -> None:
        """Take an event's time."""
        self.latencies.append(perf_counter() - self.began_at[event.id])

    def sample(self, began: float, events: int) -> Sample:
        """All of it, after making sure that no event is missing."""
        assert len(self.latencies) == events
        return Sample(self.latencies, perf_counter() - began)


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """Median rate of the rounds; median and 99th percentile of all latencies."""
    latencies = sorted(latency for sample in samples for latency in sample.latencies_s)
    return {
        "events_per_s": round(statistics.median(sample.per_s for sample in samples), 1),
        "p50_us": round(latencies[len(latencies) // 2] * 1e6, 1),
        "p99_us": round(latencies[int(len(latencies) * 0.99)] * 1e6, 1),
    }
