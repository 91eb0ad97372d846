"""Versions are in the order of their numbers, and the next free one is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.registry.store.numbering import next_free, version_order

VERSIONS = st.text(st.sampled_from("0123456789.-+ abA~é²"), min_size=1, max_size=12)


def test_versions_are_in_the_order_of_their_numbers() -> None:
    ordered = ["rc", "rc1", "1", "1.0-alpha", "1.0-alpha.1", "1.0-alpha.beta", "1.0-beta.2"]
    ordered += ["1.0-beta.11", "1.0-rc1", "1.0", "1.0a", "1.9", "1.10", "1.10.0", "2", "10"]
    texts = [version_order(version).encode() for version in ordered]
    assert texts == sorted(set(texts))


@given(VERSIONS, st.integers(0, 10**20), st.integers(0, 10**20))
def test_numbers_count_whatever_stands_before_them(head: str, one: int, other: int) -> None:
    orders = [version_order(f"{head}.{number}") for number in (one, other)]
    assert (orders[0] < orders[1]) == (one < other)
    assert (orders[0] == orders[1]) == (one == other)


@given(VERSIONS, st.integers(0, 10**6))
def test_a_pre_release_comes_before_its_release_and_a_patch_after(head: str, last: int) -> None:
    version = f"{head}{last}"
    assert version_order(f"{version}-rc1") < version_order(version) < version_order(f"{version}.1")


@pytest.mark.parametrize(
    ("version", "taken", "expected"),
    [
        ("1.2.3", [], "1.2.4"),
        ("1.2.9", ["1.2.10"], "1.2.11"),
        ("1.2.3+build5", [], "1.2.4"),
        ("7", ["8", "9"], "10"),
        ("v2", [], "v3"),
        ("2.0-rc1", [], "2.0-rc2"),
        ("final", ["final1"], "final2"),
    ],
)
def test_the_next_free_version(version: str, taken: list[str], expected: str) -> None:
    assert next_free(version, {version, *taken}) == expected
