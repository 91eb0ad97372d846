"""Adapters for a catalog, what it tells, and whether its live registry agrees with its database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from types import coroutine
from typing import Any, TypeVar, get_args

import torch

from intrinsic.bus import MemoryBus, Notice, NoticeName
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.entry import AdapterEntry
from intrinsic.registry.registering import Newcomer
from tests.tiny import write_files

_T = TypeVar("_T")
KEY = "base_model.model.model.layers.0.self_attn.q_proj"


def adapter(folder: Path, **config: object) -> Path:
    """A sound checkpoint of one module."""
    tensors = {
        f"{KEY}.lora_A.weight": torch.ones(4, 8),
        f"{KEY}.lora_B.weight": torch.ones(8, 4),
    }
    return write_files(folder, tensors, **({"target_modules": ["q_proj"]} | config))


def newcomer(folder: Path, key: str, **fields: Any) -> Newcomer:
    """That checkpoint, to be registered as `name@version`."""
    name, _, version = key.partition("@")
    return Newcomer(folder, name, version, **fields)


class Ear:
    """A bus, and what the registry tells its observers: `(what, name@version)`."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.notices: list[Notice] = []
        for name in get_args(NoticeName):
            self.bus.on(name, self.notices.append)

    def take(self) -> list[tuple[str, str | None]]:
        """What was told since the last time."""
        taken = [(one.name.removeprefix("adapter."), one.adapter) for one in self.notices]
        self.notices.clear()
        return taken


async def demand_agreement(catalog: AdapterCatalog) -> list[str]:
    """Compare the live registry with the database; return `name@version`, `+` where active."""
    there = await catalog.versions.all_live()
    live = catalog.live
    assert len(live) == len(there)
    for one in there:
        assert live.get_adapter(one.key) == AdapterEntry(one.card, one.path, one.base_model)
        assert catalog.id_of(one.key) == one.id
    assert {e.key for e in live.list_adapters()} == {one.key for one in there if one.active}
    assert await catalog.refresh() == 0
    return [f"{one.key}{'+' * one.active}" for one in there]


class Cut:
    """Awaits a coroutine and calls `cut` when it is suspended for the `number`th time, from 0."""

    def __init__(self, number: int, cut: Callable[[], object]) -> None:
        self.reached = False
        self._left = number
        self._cut = cut

    def __call__(self, work: Coroutine[Any, Any, _T]) -> Awaitable[_T]:
        return self._drive(work)

    @coroutine
    def _drive(self, work: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
        steps = work.__await__()
        try:
            waits_for = next(steps)
            while True:
                if self._left == 0:
                    self.reached = True
                    self._cut()
                self._left -= 1
                try:
                    answer = yield waits_for
                except BaseException as error:
                    waits_for = steps.throw(error)
                else:
                    waits_for = steps.send(answer)
        except StopIteration as end:
            result: _T = end.value
            return result
