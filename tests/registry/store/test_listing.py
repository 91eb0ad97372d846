"""Pages of versions: filtered, in order, the same on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from intrinsic.errors import ConfigError
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.listing import ListQuery, list_versions
from intrinsic.registry.store.versions import Versions
from tests.bus.backends import both_backends
from tests.registry.store.making import record

START = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = ["b@1.9", "a@2", "B@1.10", "a_b@1", "a%b@1", "a[b@1", "é@1.2", "a@10", "b@1.10"]
RECORDS = [
    record(
        key,
        domain="Math" if number % 2 else "coding",
        base_model=f"base-{number % 3}",
        bytes=100 - number,
        trained_here=number < 3,
        active=number % 4 == 0,
        created_at=START + timedelta(microseconds=number),
    )
    for number, key in enumerate(KEYS)
]


def keys(*numbers: int) -> list[str]:
    return [KEYS[number] for number in numbers]


@both_backends
async def test_lists_are_filtered_and_in_order(where: str) -> None:
    by_name = ["B@1.10", "a@2", "a@10", "a%b@1", "a[b@1", "a_b@1", "b@1.9", "b@1.10", "é@1.2"]
    expected: list[tuple[dict[str, Any], list[str]]] = [
        ({}, by_name),
        ({"descending": True}, by_name[::-1]),
        ({"sort": "created"}, KEYS),
        ({"sort": "bytes"}, KEYS[::-1]),
        ({"sort": "version", "name": "?"}, ["é@1.2", "b@1.9", "B@1.10", "b@1.10", "a@2", "a@10"]),
        ({"sort": "domain", "name": "b"}, ["b@1.9", "b@1.10"]),
        ({"sort": "domain", "name": "a", "descending": True}, ["a@10", "a@2"]),
        ({"sort": "created", "active": True}, keys(0, 4, 8)),
        ({"sort": "created", "active": False, "domain": "MATH"}, keys(1, 3, 5, 7)),
        ({"sort": "created", "base_model": "base-1"}, keys(1, 4, 7)),
        ({"sort": "created", "trained_here": True, "domain": "math"}, keys(1)),
        ({"name": "a_b"}, ["a_b@1"]),
        ({"name": "a_*"}, ["a_b@1"]),
        ({"name": "a%*"}, ["a%b@1"]),
        ({"name": "*[?"}, ["a[b@1"]),
        ({"name": "a?b"}, ["a%b@1", "a[b@1", "a_b@1"]),
        ({"name": "?"}, ["B@1.10", "a@2", "a@10", "b@1.9", "b@1.10", "é@1.2"]),
        ({"name": "B*"}, ["B@1.10"]),
        ({"name": "x*"}, []),
    ]
    async with Database(where) as database:
        await Versions(database).add_many(RECORDS)
        for fields, wanted in expected:
            page = await list_versions(database, ListQuery(**fields))
            assert ([one.key for one in page.records], page.total) == (wanted, len(wanted)), fields


@both_backends
async def test_pages_join_to_the_whole_and_deleted_ones_are_left_out(where: str) -> None:
    async with Database(where) as database:
        versions = Versions(database)
        await versions.add_many(RECORDS)
        whole = (await list_versions(database)).records
        assert set(whole) == set(RECORDS)
        pages = [
            await list_versions(database, ListQuery(limit=4, offset=offset))
            for offset in (0, 4, 8, 12)
        ]
        assert [one for page in pages for one in page.records] == list(whole)
        assert [page.total for page in pages] == [9] * 4
        deleted = await versions.delete(whole[0].id)
        assert (await list_versions(database)).records == whole[1:]
        page = await list_versions(database, ListQuery(include_deleted=True))
        assert page.records == (deleted, *whole[1:])


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0}, {"limit": 10_001}, {"limit": True}, {"offset": -1}, {"sort": "size"},
        {"active": 1}, {"include_deleted": None}, {"name": 5}, {"domain": b"x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_query_that_is_not_valid_is_refused(wrong: dict[str, Any]) -> None:
    (field,) = wrong
    with pytest.raises(ConfigError, match=f"{field} of the list"):
        ListQuery(**wrong)
