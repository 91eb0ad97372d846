"""What the manager's run-time scaling reports, stores and applies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intrinsic.errors import AdapterNotFoundError, MixtureError
from intrinsic.manager import AdapterManager
from intrinsic.mixture import Mixture
from intrinsic.receipt import Skipped
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of


@both_backends
async def test_the_report_names_the_layers_changed_and_what_was_skipped(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "ab"))
    await manager.load("a")
    report = manager.set_scaling("a", 0.5)
    assert (report.adapter, report.scaling, report.layers) == ("a@1", 0.5, 2)
    assert (report.changed, report.skipped) == (2, ())
    again = manager.set_scaling("a", 0.5)
    assert (again.scaling, again.changed) == (0.5, 0)
    assert again.skipped == (Skipped("a@1", "already at 0.5"),)
    other = manager.set_scaling("b", 0.5)
    assert (other.layers, other.changed) == (0, 0)
    assert other.skipped == (Skipped("b@1", "not loaded; 0.5 is kept and applies when it is"),)


@both_backends
async def test_a_factor_set_while_off_is_applied_when_on(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "ab"))
    manager.set_scaling("a", 0.25)
    await manager.set_active("a")
    async with manager.lease() as lease:
        assert lease.mixture == Mixture.of({"a@1": 0.25})
    await manager.set_active(None)
    async with manager.lease() as lease:
        assert lease.mixture == Mixture.of({})
    assert manager.set_scaling("a", 0.5).changed == 2
    await manager.unload("a")
    await manager.set_active("a")
    async with manager.lease() as lease:
        assert lease.mixture == Mixture.of({"a@1": 0.5})


@both_backends
async def test_a_factor_reaches_no_other_adapter(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "ab"))
    manager.set_scaling("a", 0.5)
    async with manager.lease({"a": 1.0, "b": 1.0}) as lease:
        assert lease.mixture == Mixture.of({"a@1": 0.5, "b@1": 1.0})


@pytest.mark.parametrize("bad", [float("nan"), float("-inf"), 10**400, True, "0.5", None])
async def test_what_is_no_finite_number_changes_nothing(tmp_path: Path, bad: Any) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "a"))
    manager.set_scaling("a", 0.5)
    with pytest.raises(MixtureError, match=r"scaling of 'a@1' is .*; it must be .*; give"):
        manager.set_scaling("a", bad)
    async with manager.lease("a") as lease:
        assert lease.mixture == Mixture.of({"a@1": 0.5})


async def test_an_unknown_adapter_is_named(tmp_path: Path) -> None:
    manager = AdapterManager(FakeBackend(), registry_of(tmp_path, "a"))
    with pytest.raises(AdapterNotFoundError, match=r"unknown adapter 'b'; .*known: a"):
        manager.set_scaling("b", 0.5)
