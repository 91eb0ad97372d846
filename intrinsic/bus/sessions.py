"""The turn of a session, and which turns wait for which frames."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from intrinsic.bus.frames import Frame


class Session:
    """Whose turn it is in one session, and who waits for it, in order of publishing."""

    __slots__ = ("holder", "id", "nested", "queue")

    def __init__(self, session_id: str, holder: Frame) -> None:
        self.id = session_id
        self.holder = holder
        self.queue: OrderedDict[Frame, None] = OrderedDict()
        self.nested = 0  # how many in the queue have parents, which wait for them

    def join(self, frame: Frame) -> None:
        """Stand at the end of the queue."""
        self.queue[frame] = None
        frame.waits_for = self
        if frame.parents:
            self.nested += 1

    def leave(self, frame: Frame) -> None:
        """Leave the queue without a turn."""
        del self.queue[frame]
        frame.waits_for = None
        if frame.parents:
            self.nested -= 1

    def next(self) -> Frame | None:
        """Pass the turn to the first in the queue and return it, or None if nobody waits."""
        if not self.queue:
            return None
        frame = next(iter(self.queue))
        self.leave(frame)
        frame.session = self
        self.holder = frame
        return frame


def blocked_by(frames: Iterable[Frame]) -> set[Session]:
    """The sessions whose queues stand still until `frames`, which end together, are done.

    These frames hold turns; nested frames in the queues of those turns keep their own ancestors
    waiting, which hold turns again; and so on. The chain may run over several buses. A frame
    that waited for one of these sessions while an ancestor is among `frames` would never run.
    """
    blocked: set[Session] = set()
    held = [frame.session for frame in frames if frame.session is not None]
    while held:
        session = held.pop()
        if session in blocked:
            continue
        blocked.add(session)
        if session.nested:
            for waiter in session.queue:
                held += [a.session for a in waiter.ancestors() if a.session is not None]
    return blocked
