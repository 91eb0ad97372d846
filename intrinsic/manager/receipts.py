"""The receipts of the latest requests, by request."""

from __future__ import annotations

from collections import OrderedDict

from intrinsic.events import MemoryEvent
from intrinsic.receipt import Receipt


class Receipts:
    """At most `most` receipts; those of the requests that were bound longest ago go first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._receipts: OrderedDict[str, Receipt] = OrderedDict()

    def add(self, receipt: Receipt) -> None:
        """Keep a receipt; it replaces an earlier one of the same request."""
        self._receipts[receipt.request_id] = receipt
        self._receipts.move_to_end(receipt.request_id)
        while len(self._receipts) > self._most:
            self._receipts.popitem(last=False)

    def get(self, request_id: str) -> Receipt | None:
        """The latest receipt of a request, or None where there is none (any more)."""
        return self._receipts.get(request_id)

    def of(self, event: MemoryEvent) -> Receipt | None:
        """The receipt that an event was answered with; that of another event does not count."""
        receipt = self.get(event.context.request_id or event.id)
        return receipt if receipt is not None and receipt.event_id in ("", event.id) else None
