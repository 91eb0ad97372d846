"""What the manager counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from intrinsic.manager.loader import AdapterLoader


class ManagerStats(TypedDict):
    """Memory by tier, and what became of the requests for adapters.

    L1 is the model's device: utilization is the larger share of `max_loaded` and `max_bytes`. L2
    is host memory, with the backend's own counters, see `intrinsic.backends.HostMemory`; an adapter
    on the device as well counts in both. L3 is disk: every registered adapter. `hits` and `misses`
    are on the device, `load_ms` what all loads onto it took.
    """

    l1_utilization: float
    l1_used_bytes: int
    l1_entries: int
    l2_utilization: float
    l2_used_bytes: int
    l2_entries: int
    l2_hits: int
    l2_misses: int
    l2_evictions: int
    l3_entries: int
    bytes_by_adapter: dict[str, int]
    host_bytes_by_adapter: dict[str, int]
    hits: int
    misses: int
    evictions: int
    load_ms: float
    prefetches: int
    prefetches_used: int
    leases: int
    merged: bool


@dataclass(slots=True)
class Counts:
    """What happened so far. A prefetch is used if its adapter was still near when asked for."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    load_ms: float = 0.0
    prefetches: int = 0
    prefetches_used: int = 0


def collect_stats(loader: AdapterLoader, *, leases: int, merged: bool) -> ManagerStats:
    """The statistics as they are now."""
    table, counts, host = loader.table, loader.counts, loader.host
    memory = host.memory()
    by_bytes = table.bytes_used / (loader.options.max_bytes or float("inf"))
    return ManagerStats(
        l1_utilization=max(len(table) / loader.max_loaded, by_bytes),
        l1_used_bytes=table.bytes_used,
        l1_entries=len(table),
        l2_utilization=memory.bytes_used / (memory.max_bytes or float("inf")),
        l2_used_bytes=memory.bytes_used,
        l2_entries=len(memory.bytes_by_path),
        l2_hits=memory.hits,
        l2_misses=memory.misses,
        l2_evictions=memory.evictions,
        l3_entries=len(loader.registry),
        bytes_by_adapter={key: table[key].info.bytes_used for key in table},
        host_bytes_by_adapter=host.bytes_by_adapter(),
        hits=counts.hits,
        misses=counts.misses,
        evictions=counts.evictions,
        load_ms=counts.load_ms,
        prefetches=counts.prefetches,
        prefetches_used=counts.prefetches_used,
        leases=leases,
        merged=merged,
    )
