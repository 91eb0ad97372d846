"""Works timed in turn, round after round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Times:
    """Seconds per name and round."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        self._seconds = seconds

    def median(self, name: str) -> float:
        """The median of a name's rounds, in seconds."""
        return statistics.median(self._seconds[name])

    def ratio(self, over: str, under: str) -> float:
        """The median of one name over that of another."""
        return self.median(over) / self.median(under)

    @property
    def shown(self) -> dict[str, Any]:
        """Median and 99th percentile in milliseconds."""
        return {
            f"{name}_ms": {"p50": 1e3 * self.median(name), "p99": 1e3 * _p99(found)}
            for name, found in self._seconds.items()
        }


def interleave(
    works: Mapping[str, Callable[[], object]],
    rounds: int,
    after: Callable[[], object] = lambda: None,
    *,
    warm_up: bool = True,
) -> Times:
    """Time each in turn, A B A B; a first round warms up and does not count. `after` is untimed."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + warm_up):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            spent = time.perf_counter() - started
            if round_ or not warm_up:
                seconds[name].append(spent)
            after()
    return Times(seconds)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {"p50": statistics.median(values), "p99": _p99(values)}


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
