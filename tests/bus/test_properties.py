"""Random handlers that raise, hang, publish and queue: every event is accounted for."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intrinsic.bus import BusOptions, MemoryBus, PublishReport, QueuedEvent
from intrinsic.errors import BusClosedError, HandlerTimeoutError
from intrinsic.events import EventContext, InjectionChannel, MemoryEvent, MemoryVector
from tests.bus.backends import BACKENDS

CHANNELS = (
    InjectionChannel.DYNAMIC_LORA,
    InjectionChannel.KNN_LM,
    InjectionChannel.LOGIT_BIAS,
)
MAX_DEPTH = 4
TIMEOUT_S = 0.03
ACTIONS = ("return", "return", "await", "raise", "hang", "publish", "publish", "queue", "wait")


@dataclass
class Scene:
    """What handlers do, derived from a seed, and what came of it."""

    seed: int
    hangs: bool
    bus: MemoryBus
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    starts: dict[str, list[int]] = field(default_factory=dict)
    nested: list[PublishReport] = field(default_factory=list)
    handles: list[QueuedEvent] = field(default_factory=list)
    vectors: Counter[str] = field(default_factory=Counter)

    def event(self, random_: random.Random, depth: int) -> MemoryEvent:
        session = random_.choice([None, "a", "b", "c"])
        return MemoryEvent(
            random_.choice(CHANNELS),
            context=EventContext(session_id=session),
            metadata={"depth": depth},
        )

    def plan(self, name: str, event: MemoryEvent) -> tuple[str, random.Random]:
        """The same for every run of a seed, but for the ids."""
        self.calls[event.id, name] += 1
        for vector in event.vectors:
            self.vectors[vector.memory_id] += 1
        random_ = random.Random(f"{self.seed} {name} {sum(self.calls.values())}")
        action = random_.choice(ACTIONS)
        depth = event.metadata.get("depth", 0)
        assert isinstance(depth, int)
        if depth >= MAX_DEPTH or (action == "hang" and not self.hangs):
            action = "return"
        return action, random_

    async def run(self, name: str, event: MemoryEvent) -> str:
        """An async handler."""
        action, random_ = self.plan(name, event)
        depth = event.metadata.get("depth", 0)
        assert isinstance(depth, int)
        match action:
            case "await":
                await anyio.lowlevel.checkpoint()
            case "raise":
                raise ValueError(name)
            case "hang":
                await anyio.sleep_forever()
            case "publish":
                for _ in range(random_.randint(1, 2)):
                    self.nested.append(await self.bus.publish(self.event(random_, depth + 1)))
            case "queue" | "wait":
                handle = self.bus.publish_nowait(self.event(random_, depth + 1))
                self.handles.append(handle)
                if action == "wait":
                    await handle.wait()
        return name

    def run_in_thread(self, name: str, event: MemoryEvent) -> str:
        """A sync handler."""
        action, random_ = self.plan(name, event)
        if action == "raise":
            raise ValueError(name)
        if action in ("publish", "queue", "wait"):
            depth = event.metadata.get("depth", 0)
            assert isinstance(depth, int)
            report = anyio.from_thread.run(self.bus.publish, self.event(random_, depth + 1))
            self.nested.append(report)
        return name


async def play(seed: int, hangs: bool, max_in_flight: int, threads: bool) -> None:
    random_ = random.Random(seed)
    options = BusOptions(
        max_in_flight=max_in_flight,
        handler_timeout_s=TIMEOUT_S if hangs else 20.0,
        handler_threads=2,
        max_dead_letters=100_000,
        injection_log_size=100_000,
    )
    reports: list[PublishReport] = []
    async with MemoryBus(options) as bus:
        scene = Scene(seed, hangs, bus)
        names = []
        for index in range(random_.randint(1, 5)):
            name = f"h{index}"
            names.append(name)
            channel = random_.choice([None, *CHANNELS])
            register(scene, channel, name, in_thread=threads and random_.random() < 0.3)
        async with anyio.create_task_group() as tasks:

            async def publish(event: MemoryEvent) -> None:
                reports.append(await bus.publish(event))

            enqueued = []
            for number in range(random_.randint(1, 12)):
                match random_.choice(["publish", "publish", "queue", "enqueue"]):
                    case "publish":
                        tasks.start_soon(publish, scene.event(random_, 0))
                    case "queue":
                        scene.handles.append(bus.publish_nowait(scene.event(random_, 0)))
                    case "enqueue":
                        vector = MemoryVector(f"v{number}", "x")
                        bus.enqueue(random_.choice(CHANNELS), [vector])
                        enqueued.append(vector.memory_id)
            for _ in range(2):
                tasks.start_soon(bus.flush)
        reports += [await handle.wait() for handle in scene.handles]
        register(scene, None, "late", in_thread=False)
        await bus.flush()
    check(bus, scene, reports, enqueued)


def register(scene: Scene, channel: InjectionChannel | None, name: str, *, in_thread: bool) -> None:
    async def handler(event: MemoryEvent) -> str:
        return await scene.run(name, event)

    def sync_handler(event: MemoryEvent) -> str:
        return scene.run_in_thread(name, event)

    scene.bus.register_handler(channel, sync_handler if in_thread else handler, name=name)


def check(bus: MemoryBus, scene: Scene, reports: list[PublishReport], enqueued: list[str]) -> None:
    statistics = bus.statistics()
    # Nothing is left.
    assert statistics.in_flight == statistics.waiting == statistics.queued == 0
    assert statistics.sessions == statistics.pending == statistics.dropped == 0
    assert bus._pipeline.admission.live == bus._pipeline.admission.in_flight == 0
    # Nothing was delivered twice, and each delivery has one outcome.
    assert set(scene.calls.values()) <= {1}
    assert statistics.published == statistics.completed + statistics.cancelled
    assert statistics.delivered == len(bus.injection_log)
    assert statistics.failed + statistics.timed_out == statistics.dead_letters
    taken = sum(len(record.handlers) for record in bus.injection_log)
    # A call that a timeout of its parent cut short has no outcome of its own.
    assert taken + statistics.dead_letters <= len(scene.calls)
    if not scene.hangs:
        assert taken + statistics.dead_letters == len(scene.calls)
        assert statistics.cancelled == 0
        # Nothing was lost.
        for report in (*reports, *scene.nested):
            assert len(report.results) == sum(
                event_id == report.event.id for event_id, _ in scene.calls
            )
    for vector in enqueued:
        handlers = scene.vectors[vector]
        assert handlers >= 1
    for report in (*reports, *scene.nested):
        for error in report.errors:
            assert isinstance(error, ValueError | HandlerTimeoutError | BusClosedError)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("threads", [False, True], ids=["tasks", "threads"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), max_in_flight=st.integers(1, 4))
def test_random_handlers_that_raise_and_publish(
    backend: str, threads: bool, seed: int, max_in_flight: int
) -> None:
    async def main() -> None:
        with anyio.fail_after(15):
            await play(seed, False, max_in_flight, threads)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), max_in_flight=st.integers(1, 4))
def test_random_handlers_that_hang_too(backend: str, seed: int, max_in_flight: int) -> None:
    async def main() -> None:
        with anyio.fail_after(15):
            await play(seed, True, max_in_flight, False)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), max_in_flight=st.integers(1, 4))
def test_sessions_keep_their_order_under_random_handlers(
    backend: str, seed: int, max_in_flight: int
) -> None:
    """Events of a session that are published at the top start in order, and never overlap."""

    async def main() -> None:
        random_ = random.Random(seed)
        running: Counter[str] = Counter()
        starts: dict[str, list[int]] = {}

        async def handler(event: MemoryEvent) -> None:
            session = event.context.session_id
            assert session is not None
            if event.parent_id is None:
                running[session] += 1
                assert running[session] == 1
                starts.setdefault(session, []).append(int(event.text))
            try:
                for _ in range(random_.randint(0, 3)):
                    await anyio.lowlevel.checkpoint()
                if event.parent_id is None and random_.random() < 0.3:
                    nested = random_.choice(["a", "b", "c"])
                    await bus.publish(MemoryEvent.from_text("0", session_id=nested))
                if random_.random() < 0.2:
                    raise ValueError
            finally:
                if event.parent_id is None:
                    running[session] -= 1

        with anyio.fail_after(15):
            async with MemoryBus(BusOptions(max_in_flight=max_in_flight)) as bus:
                bus.register_handler(None, handler)
                for number in range(30):
                    session = random_.choice(["a", "b", "c"])
                    bus.publish_nowait(MemoryEvent.from_text(str(number), session_id=session))
        assert sum(map(len, starts.values())) == 30
        assert all(numbers == sorted(numbers) for numbers in starts.values())

    anyio.run(main, backend=backend)
