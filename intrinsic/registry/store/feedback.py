"""What people say of outputs: ratings of one, preferences between two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from sqlalchemy import ColumnElement, Connection, Table, and_, false, insert, or_, select

from intrinsic.errors import AdapterNotFoundError, ConfigError
from intrinsic.registry.preferences import Outcome, Version, Vote
from intrinsic.registry.ratings import Rating
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.records import now
from intrinsic.registry.store.schema import PREFERENCES, RATINGS, VERSIONS


class Feedback:
    """Ratings and preferences by version id; None is the base model without any adapter.

    What was said of a version stays when that is deleted or renamed. All methods raise
    `RegistryError` where the database fails.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    async def rate(
        self,
        version_id: Version,
        rating: int,
        criteria: Mapping[str, int] | None = None,
        tags: Sequence[str] = (),
        prompt: str = "",
        output: str = "",
        rater: str = "",
    ) -> int:
        """Keep a rating of one output, and of single criteria, each from 1 to 5; return its id.

        Raises `ConfigError` for values that are not valid, `AdapterNotFoundError` for an unknown
        id.
        """
        checked = Rating(rating, dict(criteria or {}))
        for name, value in {"prompt": prompt, "output": output, "rater": rater}.items():
            _demand_text(value, name)
        if isinstance(tags, str):
            raise ConfigError(f"tags is {tags!r:.80}; it must be a list of texts")
        for value in (*checked.criteria, *tags):
            _demand_text(value, "a tag or a criterion")
        values = {
            "version_id": version_id,
            "rating": checked.value,
            "criteria": checked.criteria,
            "tags": list(dict.fromkeys(tags)),
            "prompt": prompt,
            "output": output,
            "rater": rater,
        }
        return await self._keep(RATINGS, values, [version_id])

    async def prefer(
        self,
        a_id: Version,
        b_id: Version,
        outcome: Outcome,
        prompt: str = "",
        rater: str = "",
    ) -> int:
        """Keep which of two outputs to one prompt was better, `a`, `b` or `tie`; return its id.

        Raises as `rate` does, also where both are the same version.
        """
        vote = Vote(a_id, b_id, outcome)
        for name, value in {"prompt": prompt, "rater": rater}.items():
            _demand_text(value, name)
        values = {
            "a_id": vote.a,
            "b_id": vote.b,
            "outcome": vote.outcome,
            "prompt": prompt,
            "rater": rater,
        }
        return await self._keep(PREFERENCES, values, [a_id, b_id])

    async def ratings_of(self, ids: Iterable[Version]) -> dict[Version, tuple[Rating, ...]]:
        """Return the ratings of each of these versions, oldest first; None is the base model."""
        return await self._db.read(partial(_ratings, ids=list(ids)))

    async def votes_between(self, ids: Iterable[Version]) -> tuple[Vote, ...]:
        """Return the votes between two of these, oldest first; None is the base model."""
        wanted = list(ids)
        both = and_(_is_among(PREFERENCES.c.a_id, wanted), _is_among(PREFERENCES.c.b_id, wanted))
        return await self._db.read(partial(_votes, condition=both))

    async def votes_of(self, version_id: Version) -> tuple[Vote, ...]:
        """Return all votes between one version and any other, oldest first."""
        wanted = [version_id]
        one = or_(_is_among(PREFERENCES.c.a_id, wanted), _is_among(PREFERENCES.c.b_id, wanted))
        return await self._db.read(partial(_votes, condition=one))

    async def _keep(self, table: Table, values: Mapping[str, object], ids: list[Version]) -> int:
        def keep(connection: Connection) -> int:
            for version_id in ids:
                _demand_known(connection, version_id)
            done = connection.execute(insert(table).values(**values, at=now()))
            key = done.inserted_primary_key
            assert key is not None
            return int(key[0])

        return await self._db.write(keep)


def _ratings(connection: Connection, ids: Sequence[Version]) -> dict[Version, tuple[Rating, ...]]:
    columns = RATINGS.c
    rows = connection.execute(
        select(columns.version_id, columns.rating, columns.criteria)
        .where(_is_among(columns.version_id, ids))
        .order_by(columns.id)
    )
    found: dict[Version, list[Rating]] = {version_id: [] for version_id in ids}
    for version_id, value, criteria in rows:
        found[version_id].append(Rating(value, criteria))
    return {version_id: tuple(ratings) for version_id, ratings in found.items()}


def _votes(connection: Connection, condition: ColumnElement[bool]) -> tuple[Vote, ...]:
    columns = PREFERENCES.c
    query = select(columns.a_id, columns.b_id, columns.outcome).where(condition)
    return tuple(Vote(*row) for row in connection.execute(query.order_by(columns.id)))


def _is_among(column: ColumnElement[str], ids: Sequence[Version]) -> ColumnElement[bool]:
    named = column.in_([one for one in ids if one is not None])
    return or_(named, column.is_(None) if None in ids else false())


def _demand_known(connection: Connection, version_id: Version) -> None:
    if version_id is None:
        return
    query = select(VERSIONS.c.id).where(VERSIONS.c.id == version_id)
    if connection.execute(query).first() is None:
        raise AdapterNotFoundError(
            f"no adapter version has the id {version_id!r}; "
            "list them with 'intrinsic adapters list'"
        )


def _demand_text(value: object, name: str) -> None:
    """What both databases can keep: text without NUL and without half characters."""
    if isinstance(value, str) and "\0" not in value:
        try:
            value.encode()
        except UnicodeEncodeError:
            pass
        else:
            return
    raise ConfigError(f"{name} of the feedback is {value!r:.80}; it must be a valid text")
