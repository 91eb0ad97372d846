"""From a conversation to a lease: its event on the bus, the receipt, the mixture held."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from intrinsic.conversation import conversation_event
from intrinsic.events import InjectionChannel, MemoryVector
from intrinsic.manager import Lease
from intrinsic.manager.manager import Asked
from intrinsic.receipt import Receipt, Skipped
from intrinsic.server.account import Account
from intrinsic.server.envelope import ApiError
from intrinsic.server.openai.target import Target
from intrinsic.wiring.answered import receipt_of

logger = logging.getLogger("intrinsic.server")

Turns = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Bound:
    """A lease, and the receipt of what was routed for it, if anything was."""

    lease: Lease
    receipt: Receipt | None = None

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What was left out, by routing or by the lease."""
        routed = () if self.receipt is None else self.receipt.skipped
        return (*routed, *self.lease.skipped)


@asynccontextmanager
async def bound(account: Account, target: Target, turns: Turns) -> AsyncIterator[Bound]:
    """Hold what a conversation is to be answered under. Raises as `AdapterManager.lease` does.

    Where routing fails the base model answers, and `Bound.skipped` says why.
    """
    manager, receipt = account.service.system.manager, None
    asked: Asked
    if target.mixture is not None:
        asked = target.mixture
    elif target.active:
        asked = None
    else:
        receipt = asked = await _receipt(account, target, turns)
    async with manager.lease(asked) as lease:
        account.under(lease.mixture)
        yield Bound(lease, receipt)


async def _receipt(account: Account, target: Target, turns: Turns) -> Receipt:
    if target.receipt is not None:
        receipt = _found(account, target.receipt)
        account.note(receipt=receipt.request_id)
        return receipt
    return await _routed(account, target, turns)


def _found(account: Account, request_id: str) -> Receipt:
    receipt = account.service.system.manager.receipt(request_id)
    if receipt is None:
        raise ApiError(
            404,
            f"no receipt of request {request_id!r:.80} is known (any more); publish its event "
            "first, and use its request id",
        )
    return receipt


async def _routed(account: Account, target: Target, turns: Turns) -> Receipt:
    """Publish the conversation; the request id is a new one, as receipts are kept by it."""
    event = conversation_event(
        turns,
        memories=_memories(target),
        request_id=f"{account.request_id}.{uuid.uuid4().hex[:12]}",
        session_id=target.lora.session,
        metadata=_wishes(target),
    )
    with account.service.tracing.span("event", event_id=event.id):
        report = await account.service.system.bus.publish(event)
        receipt = receipt_of(report)
        account.routed(receipt)
    for error in report.errors:
        logger.warning("a handler of request %s failed: %s", account.request_id, error)
    return receipt


def _memories(target: Target) -> list[MemoryVector]:
    return [
        MemoryVector(
            f"memory-{number}",
            memory.text,
            relevance_score=memory.relevance,
            injection_strength=memory.strength,
            channel=InjectionChannel.DYNAMIC_LORA,
        )
        for number, memory in enumerate(target.lora.memories, 1)
    ]


def _wishes(target: Target) -> dict[str, object]:
    lora = target.lora
    wishes: dict[str, object] = {
        "top_k": lora.top_k,
        "threshold": lora.threshold,
        "exclude": list(lora.exclude) or None,
        "shadow": lora.shadow or None,
    }
    return {name: value for name, value in wishes.items() if value is not None}
