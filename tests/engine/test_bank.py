"""Stacked factors: rows are reused, grown by copy, and never read where free."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.engine.bank import FactorBank
from intrinsic.engine.layout import FreeRows
from intrinsic.engine.prepared import Prepared


def factors(rank: int, seed: int) -> Prepared:
    generator = torch.Generator().manual_seed(seed)
    return Prepared(
        torch.randn(rank, 5, generator=generator), torch.randn(3, rank, generator=generator), 1.0
    )


def bank() -> FactorBank:
    return FactorBank(5, 3, dtype=torch.float32, device=torch.device("cpu"))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=30))
def test_every_adapter_keeps_its_factors_whatever_comes_and_goes(
    steps: list[tuple[int, int]],
) -> None:
    stack = bank()
    there: dict[str, Prepared] = {}
    for number, (name, rank) in enumerate(steps):
        key = str(name)
        if key in there:
            stack.remove(key)
            del there[key]
        else:
            there[key] = factors(rank, number)
            stack.add(key, there[key])
        used = torch.zeros(stack.rows, dtype=torch.bool)
        for other, expected in there.items():
            view = stack.get(other)
            assert view is not None
            assert torch.equal(view.A, expected.A)
            assert torch.equal(view.B, expected.B.T)
            rows = slice(view.place.start, view.place.stop)
            assert not used[rows].any()
            used[rows] = True
    assert (stack.rows == 0) == (not there)


def test_rows_that_were_freed_are_used_again() -> None:
    stack = bank()
    for name in "abc":
        stack.add(name, factors(4, 1))
    rows = stack.rows
    stack.remove("b")
    stack.add("d", factors(3, 2))
    assert stack.rows == rows


def test_growing_leaves_the_views_of_a_running_pass_alone() -> None:
    stack = bank()
    stack.add("a", factors(4, 1))
    held = stack.get("a")
    assert held is not None
    before = held.A.clone()
    stack.add("b", factors(16, 2))
    assert torch.equal(held.A, before)
    assert stack.get("a") is not held


def test_removing_an_adapter_that_is_not_here_changes_nothing() -> None:
    stack = bank()
    stack.add("a", factors(4, 1))
    stack.remove("b")
    assert stack.get("a") is not None
    assert stack.bytes_used == 4 * 8 * stack.rows


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=60))
def test_free_rows_never_overlap_and_come_back(steps: list[tuple[bool, int]]) -> None:
    free = FreeRows()
    taken: dict[int, tuple[int, int]] = {}
    for take, number in steps:
        if take and number not in taken:
            rank = number + 1
            owned = {row for start, r in taken.values() for row in range(start, start + r)}
            gaps = [
                at for at in range(free.end) if not owned & set(range(at, at + rank))
                and at + rank <= free.end
            ]  # fmt: skip
            expected = gaps[0] if gaps else free.end
            start = free.take(rank)
            assert start == expected
            taken[number] = (start, rank)
        elif number in taken:
            free.give(*taken.pop(number))
        owned = {row for start, r in taken.values() for row in range(start, start + r)}
        assert free.end == max(owned, default=-1) + 1
