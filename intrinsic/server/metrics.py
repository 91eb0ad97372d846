"""What the service counts, in Prometheus' form."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.samples import Sample

from intrinsic.receipt import Receipt
from intrinsic.server.request_queue import RequestQueue
from intrinsic.server.system_metrics import SystemMetrics
from intrinsic.system import System

TEXT = CONTENT_TYPE_LATEST
UNMATCHED = "unmatched"
"""The route of a request that no route answers; a client's own path is never a label."""

_SHORT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_LONG_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class ServiceMetrics:
    """Counters of one service, in a registry of their own. Times given are in milliseconds."""

    def __init__(self, system: System, queue: RequestQueue) -> None:
        self._born = time.monotonic()
        self.registry = CollectorRegistry()
        self.registry.register(SystemMetrics(system, queue))
        self._requests = self._counter(
            "requests", "Requests answered.", "method", "route", "status"
        )
        self._seconds = self._histogram(
            "request_seconds", "From the first byte in to the last byte out.", _LONG_S, "route"
        )
        self._refused = self._counter("refused", "Requests refused, by status.", "status")
        self._ended = self._counter(
            "ended_early", "Answers that did not reach their end, by why.", "why"
        )
        self._tokens = self._counter("tokens", "Tokens read and written.", "kind")
        self._first = self._histogram(
            "time_to_first_token_seconds", "From the request to its first token.", _LONG_S
        )
        self._routed = self._counter("routed", "Routing decisions, by outcome.", "outcome")
        self._route = self._histogram("routing_seconds", "Choosing the adapters.", _SHORT_S)
        self._load = self._histogram("load_seconds", "Bringing them onto the device.", _SHORT_S)
        self._switch = self._histogram("switch_seconds", "Binding the mixture.", _SHORT_S)

    def answered(self, *, method: str, route: str, status: int, ms: float) -> None:
        """A request was answered; one that was refused is counted as that too."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(ms / 1e3)
        if status >= 400:
            self._refused.labels(str(status)).inc()

    def ended_early(self, why: str) -> None:
        """An answer did not reach its end: `disconnected`, `timeout`, `stopped` or `failed`."""
        self._ended.labels(why).inc()

    def routed(self, receipt: Receipt) -> None:
        """Adapters were chosen for a request, or none."""
        self._routed.labels(outcome_of(receipt)).inc()
        self._route.observe(receipt.route_ms / 1e3)
        self._load.observe(receipt.load_ms / 1e3)
        self._switch.observe(receipt.switch_ms / 1e3)

    def first_token(self, ms: float) -> None:
        """The first token of an answer left, so long after the request came."""
        self._first.observe(ms / 1e3)

    def tokens(self, *, prompt: int, completion: int) -> None:
        """An answer took so many tokens."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("completion").inc(completion)

    def statistics(self) -> dict[str, object]:
        """The sums of it all, for people."""
        answered = _samples(self._requests)
        by_status = {
            f"{first}xx": _sum(s for s in answered if s.labels["status"][0] == first)
            for first in "2345"
        }
        return {
            "uptime_s": round(time.monotonic() - self._born, 1),
            "requests": _sum(answered),
            "requests_by_status": by_status,
            "ended_early": _by(self._ended, "why"),
            "tokens": _by(self._tokens, "kind"),
            "routed": _by(self._routed, "outcome"),
        }

    def text(self) -> bytes:
        """Everything, in Prometheus' text form, of media type `TEXT`."""
        return generate_latest(self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"intrinsic_{name}", about, labels, registry=self.registry)

    def _histogram(
        self, name: str, about: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"intrinsic_{name}", about, labels, registry=self.registry, buckets=buckets
        )


def _sum(samples: Iterable[Sample]) -> int:
    return sum(int(sample.value) for sample in samples)


def _by(counter: Counter, label: str) -> dict[str, int]:
    return {sample.labels[label]: int(sample.value) for sample in _samples(counter)}


def _samples(counter: Counter) -> list[Sample]:
    """Its values by labels, without the times at which they began."""
    return [s for one in counter.collect() for s in one.samples if s.name.endswith("_total")]


def outcome_of(receipt: Receipt) -> str:
    """What came of a routing: `fitted`, `none` (none fits), `skipped` (none usable), `shadow`."""
    if receipt.shadow:
        return "shadow"
    if receipt.selections:
        return "fitted"
    return "skipped" if receipt.skipped else "none"
