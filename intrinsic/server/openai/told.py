"""What was applied to an answer, for its reader: in the body and in headers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from intrinsic.server.account import Account
from intrinsic.server.mixture_text import shown
from intrinsic.server.openai.binding import Bound

_LONGEST_HEADER = 500
_SAFE = " :+@,;=._-()/"


def applied(account: Account, bound: Bound, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """The field `intrinsic` of a body, but for the times."""
    receipt, scrub = bound.receipt, account.service.scrub
    told: dict[str, Any] = {
        "mixture": dict(bound.lease.mixture.entries),
        "routed": receipt is not None,
        "selections": [],
        "skipped": [{"what": scrub(s.what), "why": scrub(s.why)} for s in bound.skipped],
    }
    if receipt is not None:
        told["request_id"] = receipt.request_id
        told["shadow"] = receipt.shadow
        told["selections"] = [
            {
                "adapter": selection.adapter,
                "confidence": round(selection.confidence, 6),
                "weight": selection.weight,
                "reason": selection.reason,
            }
            for selection in receipt.selections
        ]
    if ignored:
        told["ignored"] = [name[:80] for name in ignored[:20]]
    return told


def times(account: Account, bound: Bound, *, generate_ms: float | None = None) -> dict[str, Any]:
    """Milliseconds: of waiting in the queue, routing and loading, to the first token, and so on."""
    notes = account.notes
    found: dict[str, Any] = {name: notes[name] for name in _NOTED if name in notes}
    if bound.receipt is not None:
        found["route_ms"] = round(bound.receipt.route_ms, 3)
        found["load_ms"] = round(bound.receipt.load_ms, 3)
    if generate_ms is not None:
        found["generate_ms"] = round(generate_ms, 3)
    found["total_ms"] = round(account.ms, 3)
    return found


_NOTED = ("queue_ms", "first_token_ms")


def headers(account: Account, bound: Bound) -> dict[str, str]:
    """The same in short, for clients that do not show bodies: `x-intrinsic-*`, in ASCII."""
    found = {"x-intrinsic-mixture": _ascii(shown(bound.lease.mixture))}
    receipt = bound.receipt
    if receipt is not None:
        found["x-intrinsic-request-id"] = _ascii(receipt.request_id)
        found["x-intrinsic-route-ms"] = f"{receipt.route_ms:.3f}"
        found["x-intrinsic-load-ms"] = f"{receipt.load_ms:.3f}"
        chosen = receipt.selections
        if chosen:
            found["x-intrinsic-confidence"] = f"{max(s.confidence for s in chosen):.4f}"
            listed = ", ".join(f"{s.adapter}={s.confidence:.4f}" for s in chosen)
            found["x-intrinsic-selections"] = _ascii(listed)
        else:
            found["x-intrinsic-selections"] = "none"
    queue_ms = account.notes.get("queue_ms")
    if queue_ms is not None:
        found["x-intrinsic-queue-ms"] = f"{queue_ms}"
    return found


def _ascii(text: str) -> str:
    """Percent-encoded where it is not plain, and cut where it is long; no header ends in spaces."""
    plain = quote(text, safe=_SAFE)[:_LONGEST_HEADER]
    return _OUTER.sub(lambda spaces: "%20" * len(spaces[0]), plain)


_OUTER = re.compile(r"^ +| +$")
