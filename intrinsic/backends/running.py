"""A generation that runs in a worker thread, seen from the event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectSendStream

from intrinsic.backends.generation import Generation, Piece
from intrinsic.backends.job import Job
from intrinsic.backends.outbox import Outbox
from intrinsic.worker import wait_to_end


class Runner(Protocol):
    """Runs jobs in threads."""

    def submit(self, job: Job) -> None:
        """Take a job in; its `end` is called once, unless it is withdrawn."""
        ...

    def withdraw(self, job: Job) -> bool:
        """Take back a job that has not begun; False where it has."""
        ...


class Running:
    """A job handed to a runner; its pieces and its result come back to this event loop."""

    def __init__(self, runner: Runner, job: Job) -> None:
        self._runner = runner
        self._job = job
        self._result: Generation | BaseException | None = None
        self._outbox = Outbox.current()
        self._ended = anyio.Event()

    async def result(self) -> Generation:
        """Run to the end. Cancelling ends the work after the current step, and waits for that."""
        await checkpoint()
        self._start(None)
        try:
            await self._ended.wait()
        finally:
            await self._stop()
        return self._outcome()

    async def pieces(self) -> AsyncGenerator[Piece | Generation, None]:
        """Run to the end, piece by piece, and last the whole; leaving early is cancelling."""
        # A token gives at most one piece, so that the thread never waits for a slow reader.
        send, receive = anyio.create_memory_object_stream[Piece](self._job.max_new_tokens + 1)
        self._job.emit = lambda piece: self._post_piece(send, piece)
        with send, receive:
            self._start(send)
            try:
                async for piece in receive:
                    yield piece
            finally:
                await self._stop()
        yield self._outcome()

    def _start(self, pieces: MemoryObjectSendStream[Piece] | None) -> None:
        def end() -> None:
            if pieces is not None:
                pieces.close()
            self._ended.set()

        def ended(result: Generation | BaseException) -> None:
            self._result = result
            self._outbox.add(self._job, end)
            self._outbox.flush()

        self._job.end = ended
        self._job.flush = self._outbox.flush
        self._runner.submit(self._job)

    async def _stop(self) -> None:
        """Come back once the thread has let go of the job."""
        self._job.cancelled.set()
        if not self._ended.is_set() and not self._runner.withdraw(self._job):
            await wait_to_end(self._ended)

    def _post_piece(self, send: MemoryObjectSendStream[Piece], piece: Piece) -> None:
        """Hand a piece to the reader; one that left early is not written to."""

        def put() -> None:
            if send.statistics().open_receive_streams:
                send.send_nowait(piece)

        self._outbox.add(self._job, put)

    def _outcome(self) -> Generation:
        if isinstance(self._result, BaseException):
            raise self._result
        assert self._result is not None
        return self._result
