"""Who may be handled now: the turns of sessions and the bounded number of slots.

A top-level event first takes the turn of its session, then a slot; so an event that waits for its
session occupies no slot. A nested event never waits for a slot: it rides on its parent's.

What a nested event waits for can then only be the turn of another session. Three rules keep such
waits from standing still:

- an event of a session that an ancestor belongs to is part of that ancestor's turn: it runs now;
- where the wait would close a cycle, it runs now, out of turn (`cycles_broken`);
- the events ahead of it in the queue get a slot beyond the bound: the slot of the ancestor, which
  does nothing but wait for them, is lent to them.

Everything here is synchronous: a publisher has its place in the order before anything is awaited.
"""

from __future__ import annotations

from collections import OrderedDict

from anyio import Event

from intrinsic.bus.frames import Frame
from intrinsic.bus.sessions import Session, blocked_by
from intrinsic.errors import BusError


class Admission:
    """Turns and slots of one bus."""

    __slots__ = (
        "cycles_broken",
        "idle",
        "in_flight",
        "live",
        "max_in_flight",
        "queue",
        "sessions",
        "thread",
    )

    def __init__(self, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self.live = 0
        self.cycles_broken = 0
        self.sessions: dict[str, Session] = {}
        self.queue: OrderedDict[Frame, None] = OrderedDict()  # those that wait for a slot
        self.idle: Event | None = None  # set when the last frame is done
        self.thread = 0  # of the event loop that all of this belongs to

    def enter(self, frame: Frame) -> None:
        """Give the frame its place; `frame.admitted` tells whether it may run at once."""
        self.live += 1
        session_id = frame.session_id
        if frame.parents:
            for parent in frame.parents:
                parent.children += 1
            self._enter_nested(frame)
        elif session_id is None:
            self._take_slot(frame)
        elif (session := self.sessions.get(session_id)) is not None:
            session.join(frame)
        else:
            frame.session = self.sessions[session_id] = Session(session_id, frame)
            self._take_slot(frame)

    def leave(self, frame: Frame) -> None:
        """End the frame, whether it ran or still waited; what it held goes to the next.

        While nested events that began under it still run, it keeps its turn and its slot for them.
        """
        frame.ended = True
        done = [] if frame.children else [frame]
        while done:
            frame = done.pop()
            frame.owner._release(frame)
            for parent in frame.parents:
                parent.children -= 1
                if parent.ended and not parent.children:
                    done.append(parent)

    def adopt(self, frame: Frame, parent: Frame) -> None:
        """Make a queued frame nested, because a handler of `parent` is about to wait for it.

        Raises `BusError` where `parent` is part of the handling of `frame`.
        """
        if parent is frame or frame in parent.ancestors():
            raise BusError(
                f"a handler of event {frame.event.id} waits for that event, which cannot end "
                "before the handler does; wait for it elsewhere"
            )
        if parent in frame.parents:
            return
        session = frame.waits_for
        if session is not None and not frame.parents:
            session.nested += 1
        frame.parents = (*frame.parents, parent)
        parent.children += 1
        if frame in self.queue:
            self._lend_slot(frame)
        elif session is not None:
            self._lend_slot(session.holder)
            if self._is_part_of_ancestor(frame):
                self._run_out_of_turn(frame)
        for session in blocked_by((parent, *parent.ancestors())):
            for waiter in list(session.queue):
                if waiter is frame or frame in waiter.ancestors():
                    self.cycles_broken += 1
                    waiter.owner._run_out_of_turn(waiter)

    def waiting_frames(self) -> list[Frame]:
        """Every frame that waits for its turn or a slot."""
        queues = [session.queue for session in self.sessions.values()]
        return [frame for queue in (self.queue, *queues) for frame in queue]

    def _enter_nested(self, frame: Frame) -> None:
        session_id = frame.session_id
        if session_id is None or self._is_part_of_ancestor(frame):
            frame.admit()
            return
        session = self.sessions.get(session_id)
        if session is None:
            frame.session = self.sessions[session_id] = Session(session_id, frame)
            frame.admit()
        elif session in blocked_by(frame.ancestors()):
            self.cycles_broken += 1
            frame.admit()
        else:
            session.join(frame)
            self._lend_slot(session.holder)

    def _is_part_of_ancestor(self, frame: Frame) -> bool:
        return any(
            ancestor.owner is self and ancestor.session_id == frame.session_id
            for ancestor in frame.ancestors()
        )

    def _run_out_of_turn(self, frame: Frame) -> None:
        if frame.waits_for is not None:
            frame.waits_for.leave(frame)
        frame.admit()

    def _take_slot(self, frame: Frame) -> None:
        if self.in_flight < self.max_in_flight:
            self.in_flight += 1
            frame.holds_slot = True
            frame.admit()
        else:
            self.queue[frame] = None

    def _lend_slot(self, frame: Frame) -> None:
        """Let a frame that waits for a slot run beyond the bound; others are left alone."""
        if frame in self.queue:
            del self.queue[frame]
            self.in_flight += 1
            frame.holds_slot = True
            frame.admit()

    def _release(self, frame: Frame) -> None:
        if frame.waits_for is not None:
            frame.waits_for.leave(frame)
        if frame.holds_slot:
            self.in_flight -= 1
            while self.queue and self.in_flight < self.max_in_flight:
                self._take_slot(self.queue.popitem(last=False)[0])
        elif not frame.admitted:
            self.queue.pop(frame, None)
        if frame.session is not None:
            self._pass_turn(frame.session)
            frame.session = None
        del frame.event  # timers that were cancelled keep the frame for a while
        self.live -= 1
        if not self.live and self.idle is not None:
            self.idle.set()

    def _pass_turn(self, session: Session) -> None:
        frame = session.next()
        if frame is None:
            del self.sessions[session.id]
        elif frame.parents:
            frame.admit()
        else:
            self._take_slot(frame)
            if session.nested:
                self._lend_slot(frame)
