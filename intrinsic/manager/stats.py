"""What the manager counts."""

from __future__ import annotations

from typing import TypedDict


class ManagerStats(TypedDict):
    """Memory by tier, and what became of the requests for adapters.

    L1 is the model's device: utilization is the larger share of `max_loaded` and `max_bytes`. L2
    is host memory, where nothing is cached beyond what is loaded, so that its utilization is 0.
    L3 is disk: every registered adapter.
    """

    l1_utilization: float
    l1_used_bytes: int
    l1_entries: int
    l2_utilization: float
    l2_used_bytes: int
    l3_entries: int
    bytes_by_adapter: dict[str, int]
    hits: int
    misses: int
    evictions: int
    leases: int
    merged: bool
