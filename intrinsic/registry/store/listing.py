"""A page of the versions: filtered, ordered and cut in the database, so that it stays quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Connection, func, select

from intrinsic.errors import ConfigError
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.lookup import records_of
from intrinsic.registry.store.records import VersionRecord
from intrinsic.registry.store.schema import VERSIONS

Sort = Literal["name", "version", "created", "bytes", "domain"]

_MOST = 10_000
_KEYS: dict[Sort, tuple[str, ...]] = {
    "name": (),
    "version": ("version_order", "version"),
    "created": ("created_at",),
    "bytes": ("bytes",),
    "domain": ("domain",),
}
_THEN = ("name", "version_order", "version", "id")  # so that the order of a list is one


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which versions, in which order; None filters nothing.

    In `name`, `*` stands for any letters and `?` for one; `domain` is the same in upper and lower
    case. Versions are in the order of their numbers. `limit` is 1 to 10,000. Raises `ConfigError`.
    """

    active: bool | None = None
    domain: str | None = None
    base_model: str | None = None
    name: str | None = None
    trained_here: bool | None = None
    include_deleted: bool = False
    sort: Sort = "name"
    descending: bool = False
    limit: int = 100
    offset: int = 0

    def __post_init__(self) -> None:
        for key in ("active", "trained_here", "include_deleted", "descending"):
            value = getattr(self, key)
            left_out = value is None and key in ("active", "trained_here")
            _demand(left_out or isinstance(value, bool), key, value, "True or False")
        for key in ("domain", "base_model", "name"):
            value = getattr(self, key)
            _demand(value is None or isinstance(value, str), key, value, "a string")
        _demand(self.sort in get_args(Sort), "sort", self.sort, ", ".join(get_args(Sort)))
        _demand(_is_whole(self.limit, 1, _MOST), "limit", self.limit, f"1 to {_MOST:,}")
        _demand(_is_whole(self.offset, 0, 2**62), "offset", self.offset, "0 or more")


@dataclass(frozen=True, slots=True)
class Page:
    """The versions of a page, and how many there are on all pages.

    `loaded` are the versions (`name@version`), of this page or not, that are on the device of the
    program that asks; none in one that runs no model.
    """

    records: tuple[VersionRecord, ...]
    total: int
    loaded: frozenset[str] = frozenset()


async def list_versions(database: Database, query: ListQuery | None = None) -> Page:
    """Return the page that was asked for; raise `RegistryError` where the database fails."""
    asked = query or ListQuery()
    return await database.read(lambda connection: _page(connection, asked))


def _page(connection: Connection, query: ListQuery) -> Page:
    conditions = _conditions(query, connection.dialect.name)
    total = connection.scalar(select(func.count()).select_from(VERSIONS).where(*conditions))
    page = select(VERSIONS.c.id).where(*conditions).order_by(*_order(query))
    ids = list(connection.scalars(page.limit(query.limit).offset(query.offset)))
    records = records_of(connection, ids)
    return Page(tuple(records[one] for one in ids), total or 0)


def _conditions(query: ListQuery, dialect: str) -> list[ColumnElement[bool]]:
    columns = VERSIONS.c
    conditions: list[ColumnElement[bool]] = []
    if not query.include_deleted:
        conditions.append(columns.deleted_at.is_(None))
    if query.active is not None:
        conditions.append(columns.active == query.active)
    if query.trained_here is not None:
        conditions.append(columns.trained_here == query.trained_here)
    if query.domain is not None:
        conditions.append(columns.domain == query.domain.lower())
    if query.base_model is not None:
        conditions.append(columns.base_model == query.base_model)
    if query.name is not None:
        conditions.append(_matches(columns.name, query.name, dialect))
    return conditions


def _matches(column: ColumnElement[str], pattern: str, dialect: str) -> ColumnElement[bool]:
    """`*` and `?` alone are special, and upper and lower case differ, on both databases."""
    if not set(pattern) & set("*?"):
        return column == pattern
    if dialect == "sqlite":
        return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
    for letter in ("\\", "%", "_"):
        pattern = pattern.replace(letter, "\\" + letter)
    return column.like(pattern.replace("*", "%").replace("?", "_"), escape="\\")


def _order(query: ListQuery) -> list[ColumnElement[Any]]:
    columns = [VERSIONS.c[key] for key in dict.fromkeys((*_KEYS[query.sort], *_THEN))]
    return [column.desc() if query.descending else column.asc() for column in columns]


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _demand(holds: bool, name: str, value: object, what: str) -> None:
    if not holds:
        raise ConfigError(f"{name} of the list is {value!r:.80}; it must be {what}")
