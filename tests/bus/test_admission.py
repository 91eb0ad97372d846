"""Admission as a model: whatever frames do, one of them can always go on.

Frames enter, publish nested frames in random sessions of random buses, wait for queued ones and end
when nothing that they wait for is left. Deadlock freedom is then: while a frame is alive, one is
admitted that waits for nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from intrinsic.bus.admission import Admission
from intrinsic.bus.frames import Frame
from intrinsic.errors import BusError
from intrinsic.events import EventContext, InjectionChannel, MemoryEvent


@dataclass
class World:
    """Some buses, the frames that are alive, and the order in which each session was served."""

    buses: list[Admission]
    random: random.Random
    alive: list[Frame] = field(default_factory=list)
    waits_for: dict[Frame, set[Frame]] = field(default_factory=dict)
    entered: list[Frame] = field(default_factory=list)
    started: list[Frame] = field(default_factory=list)

    def enter(self, bus: Admission, session: str | None, parent: Frame | None) -> Frame:
        context = EventContext(session_id=session)
        event = MemoryEvent(InjectionChannel.DYNAMIC_LORA, context=context)
        frame = Frame(bus, event, () if parent is None else (parent,))
        bus.enter(frame)
        self.alive.append(frame)
        self.entered.append(frame)
        self.waits_for[frame] = set()
        if parent is not None:
            self.waits_for[parent].add(frame)
        self.note_started()
        return frame

    def end(self, frame: Frame) -> None:
        self.alive.remove(frame)
        del self.waits_for[frame]
        for others in self.waits_for.values():
            others.discard(frame)
        frame.owner.leave(frame)
        self.note_started()

    def note_started(self) -> None:
        new = {frame for frame in self.alive if frame.admitted} - set(self.started)
        self.started += [frame for frame in self.entered if frame in new]

    def free(self) -> list[Frame]:
        """Those that can go on by themselves."""
        return [f for f in self.alive if f.admitted and not self.waits_for[f]]

    def check(self) -> None:
        for bus in self.buses:
            assert not any(frame.admitted for frame in bus.waiting_frames())
            for session in bus.sessions.values():
                assert session.nested == sum(bool(frame.parents) for frame in session.queue)
        assert not self.alive or self.free(), "deadlock"


SESSIONS = (None, "a", "b", "c")


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 2), st.integers(1, 3))
def test_whatever_is_published_where_something_can_always_go_on(
    seed: int, buses: int, max_in_flight: int
) -> None:
    world = World([Admission(max_in_flight) for _ in range(buses)], random.Random(seed))
    for _ in range(world.random.randint(5, 60)):
        step(world)
        world.check()
    while world.alive:
        world.end(world.random.choice(world.free()))
        world.check()
    for bus in world.buses:
        assert (bus.live, bus.in_flight, len(bus.queue)) == (0, 0, 0)
        assert bus.sessions == {}


def step(world: World) -> None:
    """Let one thing happen that can happen."""
    choice = world.random.choice
    free = world.free()
    waiting = [frame for bus in world.buses for frame in bus.waiting_frames()]
    kinds = ["top"] + (["nested", "nested", "end", "adopt"] if free else [])
    kinds += ["give up"] if waiting else []
    blocked = [frame for frame in world.alive if world.waits_for[frame]]
    kinds += ["outlived"] if blocked else []
    match choice(kinds):
        case "top":
            world.enter(choice(world.buses), choice(SESSIONS), None)
        case "nested":
            parent = choice(free)
            for _ in range(choice([1, 2])):
                world.enter(choice(world.buses), choice(SESSIONS), parent)
        case "adopt":
            waiter, awaited = choice(free), choice(world.alive)
            try:
                awaited.owner.adopt(awaited, waiter)
            except BusError:
                assert waiter is awaited or awaited in waiter.ancestors()
            else:
                world.waits_for[waiter].add(awaited)
                world.note_started()
        case "give up":
            world.end(choice(waiting))
        case "outlived":
            world.end(choice(blocked))
        case "end":
            world.end(choice(free))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_top_level_events_of_a_session_start_in_order_and_one_at_a_time(
    seed: int, max_in_flight: int
) -> None:
    bus = Admission(max_in_flight)
    world = World([bus], random.Random(seed))
    choice = world.random.choice
    for _ in range(world.random.randint(5, 60)):
        running = [frame for frame in world.alive if frame.admitted]
        if running and world.random.random() < 0.5:
            world.end(choice(running))
        else:
            world.enter(bus, choice(SESSIONS), None)
        running = [frame for frame in world.alive if frame.admitted]
        sessions = [frame.session_id for frame in running if frame.session_id is not None]
        assert len(sessions) == len(set(sessions))
        assert len(running) <= max_in_flight
        assert len(running) == max_in_flight or not bus.queue
    for session in ("a", "b", "c"):
        entered = [frame for frame in world.entered if frame.session_id == session]
        started = [frame for frame in world.started if frame.session_id == session]
        assert started == entered[: len(started)]
