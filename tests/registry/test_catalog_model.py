"""Whatever is done to two catalogs of one database, both say what a plain model says."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import hypothesis.strategies as st
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from intrinsic.errors import AdapterExistsError, AdapterNotFoundError, ConfigError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.listing import ListQuery
from intrinsic.registry.store.numbering import version_order
from tests.bus.backends import BACKENDS
from tests.registry.cataloguing import demand_agreement
from tests.registry.store.making import record

NAMES = st.sampled_from(["a", "b", "é c"])
VERSIONS = st.sampled_from(["1", "2", "10", "1.0.9", "1.0.10"])
KEYS = st.builds("{}@{}".format, NAMES, VERSIONS)
TARGETS = st.one_of(KEYS, NAMES)
WHO = st.integers(0, 1)


@dataclass
class Row:
    name: str
    version: str
    active: bool = False
    deleted: bool = False
    domain: str = ""

    @property
    def key(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def place(self) -> tuple[str, str]:
        return version_order(self.version), self.version


def row_of(key: str) -> Row:
    name, _, version = key.partition("@")
    return Row(name, version)


@cache
def template() -> Path:
    """A database with its tables and nothing in them, to be copied."""
    path = Path(tempfile.mkdtemp(prefix="registry-")) / "empty.db"

    async def make() -> None:
        async with Database(path):
            pass

    anyio.run(make)
    return path


class CatalogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.touched: tuple[int, set[str]] | None = None
        self.stack = ExitStack()

    @initialize(backend=st.sampled_from(BACKENDS))
    def open(self, backend: str) -> None:
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        where = shutil.copy(template(), Path(folder) / "registry.db")
        self.portal = self.stack.enter_context(start_blocking_portal(backend))
        self.catalogs = [
            self.stack.enter_context(self.portal.wrap_async_context_manager(AdapterCatalog(where)))
            for _ in range(2)
        ]

    def teardown(self) -> None:
        try:
            for who in range(len(getattr(self, "catalogs", []))):
                self.follow(who)
        finally:
            self.stack.close()

    def call(self, method: Any, *arguments: Any, **options: Any) -> Any:
        async def run() -> Any:
            return await method(*arguments, **options)

        return self.portal.call(run)

    def live(self, name: str) -> list[Row]:
        return sorted(
            (row for row in self.rows if row.name == name and not row.deleted),
            key=lambda row: row.place,
        )

    def found(self, meant: str) -> Row | None:
        """What a key or a name means: the newest active version, else the newest."""
        name, at, version = meant.partition("@")
        rows = [row for row in self.live(name) if not at or row.version == version]
        return max(rows, key=lambda row: (row.active, row.place), default=None)

    def switch_on(self, row: Row) -> None:
        for other in self.live(row.name):
            other.active = other is row

    @rule(who=WHO, key=KEYS, activate=st.sampled_from([None, True, False]))
    def keep(self, who: int, key: str, activate: bool | None) -> None:
        row = row_of(key)
        taken = any(other.key == key for other in self.rows)
        try:
            kept = self.call(self.catalogs[who].keep, record(key), activate=activate)
        except AdapterExistsError:
            assert taken
            return
        assert not taken
        self.touched = who, {row.name}
        first = not self.live(row.name)
        self.rows.append(row)
        if activate or (activate is None and first):
            self.switch_on(row)
        assert kept.active == row.active

    @rule(who=WHO, keys=st.lists(KEYS, max_size=5), activate=st.sampled_from([None, True, False]))
    def register_all(self, who: int, keys: list[str], activate: bool | None) -> None:
        known = {row.name for row in self.rows if not row.deleted}
        added: dict[str, list[Row]] = {}
        expected = []
        for key in keys:
            expected.append(any(row.key == key for row in self.rows))
            if not expected[-1]:
                self.rows.append(row_of(key))
                added.setdefault(self.rows[-1].name, []).append(self.rows[-1])
        new = [record(key) for key in keys]
        refusals = self.call(self.catalogs[who].register_all, new, activate=activate)
        assert [why is not None for why in refusals] == expected
        self.touched = who, {key.split("@")[0] for key in keys}
        for name, rows in added.items():
            if activate or (activate is None and name not in known):
                self.switch_on(max(rows, key=lambda row: row.place))

    @rule(who=WHO, meant=TARGETS, active=st.booleans(), only=st.booleans())
    def switch(self, who: int, meant: str, active: bool, only: bool) -> None:
        catalog, row = self.catalogs[who], self.found(meant)
        try:
            if active:
                kept = self.call(catalog.activate, meant, only=only)
            else:
                kept = self.call(catalog.deactivate, meant)
        except AdapterNotFoundError:
            assert row is None
            return
        assert row is not None
        self.touched = who, {row.name}
        if active and only:
            self.switch_on(row)
        row.active = active
        assert (kept.key, kept.active) == (row.key, active)

    @rule(who=WHO, name=NAMES, new_name=NAMES)
    def rename(self, who: int, name: str, new_name: str) -> None:
        try:
            self.call(self.catalogs[who].rename, name, new_name)
        except AdapterNotFoundError:
            assert not self.live(name)
        except AdapterExistsError:
            assert any(row.name == new_name for row in self.rows)
        else:
            self.touched = who, {name, new_name}
            for row in self.rows:
                row.name = new_name if row.name == name else row.name

    @rule(who=WHO, meant=TARGETS)
    def delete(self, who: int, meant: str) -> None:
        row = self.found(meant)
        try:
            deleted = self.call(self.catalogs[who].delete, meant)
        except AdapterNotFoundError:
            assert row is None
            return
        assert row is not None
        assert deleted.key == row.key
        self.touched = who, {row.name}
        row.deleted, row.active = True, False

    @rule(who=WHO, key=KEYS, domain=st.sampled_from(["Math", "é", ""]))
    def update_card(self, who: int, key: str, domain: str) -> None:
        catalog, row = self.catalogs[who], self.found(key)
        name, version = key.split("@")
        card = replace(record(key).card, name=name, version=version, domain=domain)
        try:
            self.call(catalog.update_card, key, card)
        except AdapterNotFoundError:
            assert row is None
            return
        assert row is not None
        self.touched = who, {row.name}
        row.domain = domain

    @rule(who=WHO, key=KEYS)
    def refuse(self, who: int, key: str) -> None:
        try:
            self.call(self.catalogs[who].rename, key, "z")
        except ConfigError:
            return
        raise AssertionError(key)

    @rule(who=WHO)
    def follow(self, who: int) -> None:
        """One that is refreshed says what the model says, in the database and in memory."""
        catalog = self.catalogs[who]
        self.call(catalog.refresh)
        self.call(demand_agreement, catalog)
        live = [row for row in self.rows if not row.deleted]
        page = self.call(catalog.list, ListQuery(limit=1_000))
        assert sorted((r.key, r.active, r.card.domain) for r in page.records) == sorted(
            (row.key, row.active, row.domain) for row in live
        )
        for name in {row.name for row in self.rows}:
            self.demand(catalog, name)
        for row in self.rows:
            assert catalog.live.knows(row.key) == any(row.key == other.key for other in live)

    @invariant()
    def who_did_something_knows_it_at_once(self) -> None:
        if self.touched:
            who, names = self.touched
            for name in names:
                self.demand(self.catalogs[who], name)

    def demand(self, catalog: AdapterCatalog, name: str) -> None:
        rows, live = self.live(name), catalog.live
        assert [entry.key for entry in live.versions(name)] == [row.key for row in rows]
        assert [live.is_active(row.key) for row in rows] == [row.active for row in rows]
        assert [entry.card.domain for entry in live.versions(name)] == [r.domain for r in rows]
        if (found := self.found(name)) is not None:
            assert self.call(catalog.get, name).key == found.key
            if found.active:
                assert live.get_adapter(name).key == found.key


CatalogMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestCatalogModel = CatalogMachine.TestCase
