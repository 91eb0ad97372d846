"""What is known of one request: for its line in the log, the metrics and the traces."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from intrinsic.mixture import Mixture
from intrinsic.receipt import Receipt
from intrinsic.server.metrics import outcome_of
from intrinsic.server.mixture_text import shown

if TYPE_CHECKING:
    import anyio

    from intrinsic.server.service import Service


@dataclass(slots=True)
class Account:
    """A route tells it what it does; nothing of prompts and answers but their sizes.

    `scope` ends the request when it is cancelled, by its deadline as well. A stream that is told
    nothing of it is ended by it with an event that says so.
    """

    service: Service
    request_id: str
    scope: anyio.CancelScope
    started: float = field(default_factory=time.perf_counter)
    notes: dict[str, str | int | float] = field(default_factory=dict)

    def routed(self, receipt: Receipt) -> None:
        """Adapters were chosen for it, or none."""
        self.notes["routed"] = outcome_of(receipt)
        self.notes["mixture"] = shown(receipt.mixture)
        self.notes["receipt"] = receipt.request_id
        self.notes["route_ms"] = round(receipt.route_ms, 3)
        self.notes["load_ms"] = round(receipt.load_ms, 3)
        self.service.metrics.routed(receipt)
        self.service.tracing.routed(receipt)

    def under(self, mixture: Mixture) -> None:
        """It runs under that mixture."""
        self.notes["mixture"] = shown(mixture)

    def first_token(self) -> None:
        """The first piece of its answer leaves now; told again, that is no news."""
        if "first_token_ms" not in self.notes:
            self.notes["first_token_ms"] = round(self.ms, 3)
            self.service.metrics.first_token(self.ms)

    def used(self, *, prompt: int, completion: int) -> None:
        """It took so many tokens."""
        self.notes["prompt_tokens"] = prompt
        self.notes["completion_tokens"] = completion
        self.service.metrics.tokens(prompt=prompt, completion=completion)

    def note(self, **notes: str | int | float) -> None:
        """Say more in its line of the log."""
        self.notes.update(notes)

    def without_end(self) -> None:
        """It is answered for as long as its client listens, whatever the limit on time is."""
        self.scope.deadline = float("inf")

    @property
    def ms(self) -> float:
        """Milliseconds since it came."""
        return (time.perf_counter() - self.started) * 1e3


def account_of(connection: HTTPConnection) -> Account:
    """The account of a request."""
    account: Account = connection.scope["state"]["account"]
    return account
