"""What the forward pass of this thread runs under: one mixture, or one per row of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from intrinsic.errors import MixtureError
from intrinsic.mixture import Mixture


@dataclass(frozen=True, slots=True)
class Active:
    """The mixtures of one forward pass; `rows` is empty where all rows share `shared`.

    `adapters` are the ids of all adapters that any row uses, sorted; `spans` the rows that stand
    beside each other under one mixture. `plans` is where layers keep
    what they have worked out for these mixtures.
    """

    shared: Mixture
    rows: tuple[Mixture, ...] = ()
    adapters: tuple[str, ...] = field(init=False, default=())
    spans: tuple[tuple[Mixture, slice], ...] = field(init=False, default=())
    over: bool = field(init=False, default=False, compare=False)
    plans: dict[object, Any] = field(init=False, default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        used = {a for mixture in (self.rows or (self.shared,)) for a in mixture.adapters}
        object.__setattr__(self, "adapters", tuple(sorted(used)))
        object.__setattr__(self, "spans", tuple(_spans(self.rows)))

    @classmethod
    def of(cls, mixtures: Mixture | Sequence[Mixture]) -> Active:
        """One mixture for the whole batch, or a sequence with one per row."""
        if isinstance(mixtures, Mixture):
            return cls(mixtures)
        if not mixtures:
            raise MixtureError("no mixture given; pass one, or one per row of the batch")
        if all(mixture == mixtures[0] for mixture in mixtures):
            return cls(mixtures[0])
        return cls(Mixture(), tuple(mixtures))

    def end(self) -> None:
        """Forget the plans; a task that outlives the activation may run under them no more."""
        object.__setattr__(self, "over", True)
        self.plans.clear()

    def column(self, adapter: str) -> tuple[float, ...]:
        """The adapter's weight in every row's mixture, 0 where the row does not use it."""
        found: tuple[float, ...] | None = self.plans.get(adapter)
        if found is None:
            found = tuple(dict(row.entries).get(adapter, 0.0) for row in self.rows)
            self.plans[adapter] = found
        return found


def _spans(rows: Sequence[Mixture]) -> Iterator[tuple[Mixture, slice]]:
    at = 0
    for mixture, same in groupby(rows):
        count = len(list(same))
        yield mixture, slice(at, at + count)
        at += count


class Activity:
    """What is active for one engine's layers; None means the base model.

    A context variable: engines, threads and tasks never see each other's. A copy of a model with
    side-cars has an activity of its own, in which nothing is ever active.
    """

    def __init__(self) -> None:
        variable: ContextVar[Active | None] = ContextVar("intrinsic_active", default=None)
        self.get, self.set, self.reset = variable.get, variable.set, variable.reset

    def __reduce__(self) -> tuple[type[Activity], tuple[()]]:
        return Activity, ()


class Held:
    """Mixtures that an engine holds, to be made active for some passes, again and again."""

    def __init__(self, active: Active | None, activity: Activity) -> None:
        self._active = active
        self._activity = activity

    @contextmanager
    def active(self) -> Iterator[None]:
        """Run the forward passes of this block, in this thread, under the mixtures."""
        token = self._activity.set(self._active)
        try:
            yield
        finally:
            self._activity.reset(token)
