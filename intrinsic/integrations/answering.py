"""A question on its way through the bus, the router and the manager to its answer."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

from intrinsic.backends import Generation
from intrinsic.bus import MemoryBus
from intrinsic.conversation import conversation_event
from intrinsic.integrations.question import AUTO, BASE, Question
from intrinsic.manager import AdapterManager, Lease
from intrinsic.receipt import Receipt
from intrinsic.wiring.answered import receipt_of


class Answers(Protocol):
    """What answers: an opened `System`, or any bus and manager that are wired together."""

    @property
    def bus(self) -> MemoryBus:
        """The bus, which is running."""
        ...

    @property
    def manager(self) -> AdapterManager:
        """The manager that the bus's handler brings mixtures with."""
        ...


class Wired(NamedTuple):
    """A bus and a manager that `setup_weight_interface` wired together."""

    bus: MemoryBus
    manager: AdapterManager


class Answering:
    """A question that holds its mixture; ask it once, for `generate` or for `pieces`.

    `generation` is there once the answer is.
    """

    def __init__(
        self, question: Question, lease: Lease, receipt: Receipt | None, started: float
    ) -> None:
        self.generation: Generation | None = None
        self._question = question
        self._lease = lease
        self._receipt = receipt
        self._started = started
        self._first_ms: float | None = None
        self._closed = False

    async def generate(self) -> Generation:
        """The answer as a whole."""
        self.generation = await self._lease.generate(self._question.turns, self._question.options)
        return self.generation

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The answer piece by piece; leaving early, or `close`, ends the work."""
        pieces = self._lease.pieces(self._question.turns, self._question.options)
        async with aclosing(pieces):
            async for piece in pieces:
                if self._closed:
                    return
                if isinstance(piece, Generation):
                    self.generation = piece
                elif piece.text:
                    if self._first_ms is None:
                        self._first_ms = self._spent_ms
                    yield piece.text

    def close(self) -> None:
        """End the work with the next piece; `generation` stays None then."""
        self._closed = True

    @property
    def applied(self) -> dict[str, Any]:
        """What the answer was made under, as plain data; times are in milliseconds."""
        receipt = self._receipt
        skipped = [*(receipt.skipped if receipt else ()), *self._lease.skipped]
        times = {
            "route_ms": receipt.route_ms if receipt else None,
            "load_ms": receipt.load_ms if receipt else None,
            "first_token_ms": self._first_ms,
            "generate_ms": self.generation.generate_ms if self.generation else None,
            "total_ms": self._spent_ms,
        }
        return {
            "mixture": dict(self._lease.mixture.entries),
            "selections": [asdict(one) for one in receipt.selections] if receipt else [],
            "skipped": [asdict(one) for one in skipped],
            "shadow": receipt.shadow if receipt else False,
            "request_id": receipt.request_id if receipt else None,
            "times": {name: spent for name, spent in times.items() if spent is not None},
        }

    @property
    def _spent_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1e3


@asynccontextmanager
async def answering(answers: Answers, question: Question) -> AsyncIterator[Answering]:
    """Route a question, unless it names its adapters, and hold the mixture while it is answered.

    Routing that fails costs the adapters, not the answer; adapters that were named are had or the
    call raises, as `AdapterManager.lease` does.
    """
    started = time.perf_counter()
    manager = answers.manager
    if question.adapters == AUTO:
        event = conversation_event(
            question.turns,
            memories=question.memories,
            session_id=question.session_id,
        )
        receipt = receipt_of(await answers.bus.publish(event))
        async with manager.lease(receipt) as lease:
            yield Answering(question, lease, receipt, started)
    else:
        async with manager.lease({} if question.adapters == BASE else question.adapters) as lease:
            yield Answering(question, lease, None, started)
