"""Ratings and preferences are checked, kept and found again, whatever happens to the versions."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, select

from intrinsic.errors import AdapterNotFoundError, ConfigError
from intrinsic.registry.preferences import Vote
from intrinsic.registry.ratings import Rating
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.feedback import Feedback
from intrinsic.registry.store.schema import PREFERENCES, RATINGS
from intrinsic.registry.store.versions import Versions
from tests.bus.backends import both_backends
from tests.registry.store.making import record


async def added(database: Database) -> list[str]:
    return [(await Versions(database).add(record(f"a@{number}"))).id for number in (1, 2, 3)]


@both_backends
async def test_ratings_come_back_by_version(where: str) -> None:
    async with Database(where) as database:
        feedback = Feedback(database)
        one, two, three = await added(database)
        first = await feedback.rate(
            one, 5, {"tone": 4}, ["short", "short", "é"], "why?", "because", "ann"
        )
        assert await feedback.rate(one, 1) > first
        await feedback.rate(None, 2)
        await feedback.rate(three, 3)
        assert await feedback.ratings_of([one, two, None]) == {
            one: (Rating(5, {"tone": 4}), Rating(1)),
            two: (),
            None: (Rating(2),),
        }
        kept = await database.read(lambda c: c.execute(select(RATINGS)).first())
        assert kept is not None
        assert (kept.tags, kept.prompt, kept.output) == (["short", "é"], "why?", "because")
        assert (kept.id, kept.rater) == (first, "ann")


@both_backends
async def test_votes_are_found_between_versions_and_of_one(where: str) -> None:
    async with Database(where) as database:
        feedback = Feedback(database)
        one, two, three = await added(database)
        await feedback.prefer(one, two, "a", "why?", "ann")
        await feedback.prefer(two, one, "tie")
        await feedback.prefer(one, None, "b")
        await feedback.prefer(three, one, "a")
        votes = (
            Vote(one, two, "a"),
            Vote(two, one, "tie"),
            Vote(one, None, "b"),
            Vote(three, one, "a"),
        )
        assert await feedback.votes_between([one, two]) == votes[:2]
        assert await feedback.votes_between([one, None]) == votes[2:3]
        assert await feedback.votes_between([one, two, three, None]) == votes
        assert await feedback.votes_between([]) == ()
        assert await feedback.votes_of(one) == votes
        assert await feedback.votes_of(three) == votes[3:]
        assert await feedback.votes_of(None) == votes[2:3]


@both_backends
async def test_feedback_outlives_a_deletion_and_a_rename(where: str) -> None:
    async with Database(where) as database:
        feedback, versions = Feedback(database), Versions(database)
        one, two, _ = await added(database)
        await feedback.rate(one, 5)
        await feedback.prefer(one, two, "a")
        await versions.delete(one)
        await versions.rename("a", "b")
        await feedback.rate(one, 4)
        assert await feedback.ratings_of([one]) == {one: (Rating(5), Rating(4))}
        assert await feedback.votes_between([one, two]) == (Vote(one, two, "a"),)


@both_backends
async def test_feedback_that_is_not_valid_is_refused(where: str) -> None:
    async with Database(where) as database:
        feedback = Feedback(database)
        one, two, _ = await added(database)
        valid: dict[str, Any] = {"version_id": one, "rating": 3}
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"rating": 0}, "rating is 0"),
            ({"rating": 6}, "rating is 6"),
            ({"rating": 4.5}, "rating is 4.5"),
            ({"rating": True}, "rating is True"),
            ({"criteria": {"tone": 9}}, "tone is 9"),
            ({"tags": "short"}, "tags is 'short'"),
            ({"tags": [5]}, "it must be a valid text"),
            ({"output": "\0"}, "output of the feedback"),
            ({"prompt": "\ud800"}, "prompt of the feedback"),
        ]
        for fields, said in wrong:
            with pytest.raises(ConfigError, match=said):
                await feedback.rate(**valid | fields)
        with pytest.raises(ConfigError, match="and itself"):
            await feedback.prefer(one, one, "a")
        with pytest.raises(ConfigError, match="and itself"):
            await feedback.prefer(None, None, "tie")
        with pytest.raises(ConfigError, match="must be a, b or tie"):
            await feedback.prefer(one, two, "c")  # type: ignore[arg-type]
        with pytest.raises(AdapterNotFoundError, match="'nobody'"):
            await feedback.rate("nobody", 3)
        with pytest.raises(AdapterNotFoundError, match="'nobody'"):
            await feedback.prefer(one, "nobody", "a")
        assert await database.read(rows) == 0


def rows(connection: Connection) -> int:
    return sum(len(connection.execute(select(table)).all()) for table in (RATINGS, PREFERENCES))
