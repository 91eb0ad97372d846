"""What bus, manager, queue and batches count themselves, read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from intrinsic.server.request_queue import RequestQueue
from intrinsic.system import System

_GAUGES_OF_BUS = (
    "in_flight",
    "waiting",
    "queued",
    "pending",
    "dead_letters",
    "sessions",
    "handlers",
)


class SystemMetrics(Collector):
    """Counts nothing itself, so that nothing is paid for between two looks."""

    def __init__(self, system: System, queue: RequestQueue) -> None:
        self._system = system
        self._queue = queue

    def describe(self) -> list[Metric]:
        """Nothing: the names are known only when it is looked."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now."""
        yield _gauge("queue_running", "Requests that run the model.", self._queue.running)
        yield _gauge("queue_waiting", "Requests that wait for that.", self._queue.waiting)
        yield from self._batches()
        yield from self._adapters()
        yield from self._bus()

    def _batches(self) -> Iterator[Metric]:
        ask = getattr(self._system.backend, "batches", None)
        batches = ask() if ask is not None else None
        if batches is not None:
            yield _counter("batch_steps", "Passes of a batch through the model.", batches.steps)
            yield _counter("batch_rows", "Rows in those passes, together.", batches.row_steps)
            yield _gauge("batch_running", "Generations that are in a batch.", batches.rows)
            yield _gauge("batch_waiting", "Generations that wait for one.", batches.waiting)

    def _adapters(self) -> Iterator[Metric]:
        stats = self._system.manager.get_stats()
        used = GaugeMetricFamily("intrinsic_tier_bytes", "Bytes of adapters.", labels=["tier"])
        used.add_metric(["device"], stats["l1_used_bytes"])
        used.add_metric(["host"], stats["l2_used_bytes"])
        yield used
        entries = GaugeMetricFamily("intrinsic_tier_adapters", "Adapters kept.", labels=["tier"])
        for tier, count in zip(
            ("device", "host", "disk"),
            (stats["l1_entries"], stats["l2_entries"], stats["l3_entries"]),
            strict=True,
        ):
            entries.add_metric([tier], count)
        yield entries
        for what, about in (
            ("hits", "Adapters found where they were asked for."),
            ("misses", "Adapters that were not there."),
            ("evictions", "Adapters that gave way to others."),
        ):
            counter = CounterMetricFamily(f"intrinsic_tier_{what}", about, labels=["tier"])
            counter.add_metric(["device"], float(stats[what]))  # type: ignore[literal-required]
            counter.add_metric(["host"], float(stats[f"l2_{what}"]))  # type: ignore[literal-required]
            yield counter
        yield _counter("adapter_load_seconds", "Spent on loading adapters.", stats["load_ms"] / 1e3)
        yield _counter("prefetches", "Adapters fetched ahead.", stats["prefetches"])
        yield _counter("prefetches_used", "Those that were wanted.", stats["prefetches_used"])
        yield _gauge("leases", "Requests that hold a mixture.", stats["leases"])
        yield _gauge("merged", "1 while a mixture is in the weights.", float(stats["merged"]))

    def _bus(self) -> Iterator[Metric]:
        bus = self._system.bus
        for name, value in bus.statistics()._asdict().items():
            metric = _gauge if name in _GAUGES_OF_BUS else _counter
            yield metric(f"bus_{name}", f"Of the memory bus: {name.replace('_', ' ')}.", value)
        yield _gauge("bus_kill_switch", "1 while the bus is suspended.", bus.suspended is not None)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"intrinsic_{name}", about, value=float(value))


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"intrinsic_{name}", about, value=float(value))
