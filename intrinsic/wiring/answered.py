"""What an event was routed to, as whoever published it needs to know."""

from __future__ import annotations

from intrinsic.bus import PublishReport
from intrinsic.mixture import BASE
from intrinsic.receipt import Receipt, Skipped


def receipt_of(report: PublishReport) -> Receipt:
    """The receipt in a report; where no handler gave one, one of the base model that says why."""
    for result in report.results:
        if isinstance(result.value, Receipt):
            return result.value
    event = report.event
    request_id = event.context.request_id or event.id
    return Receipt(request_id, event_id=event.id, mixture=BASE, skipped=(_unanswered(report),))


def _unanswered(report: PublishReport) -> Skipped:
    if report.suspended is not None:
        return Skipped("bus", f"suspended: {report.suspended}")
    why = "; ".join(f"{type(error).__name__}: {error}" for error in report.errors)
    return Skipped("router", why or "nobody answered the event")
