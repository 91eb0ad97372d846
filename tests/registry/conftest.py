"""A fresh place for a database: on SQLite always, on PostgreSQL where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from tests.registry.store.postgres import find_binaries, server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The folder of a running server's socket."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed; Debian has it in postgresql-15")
    with server(binaries) as folder:
        yield folder


@pytest.fixture
def postgresql_url(postgresql: str) -> str:
    """The URL of a fresh schema of that server."""
    schema = f"s{uuid4().hex}"
    url = f"postgresql://postgres@/postgres?host={postgresql}"
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    engine.dispose()
    return f"{url}&options=-csearch_path%3D{schema}"


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a fresh database is to be."""
    if request.param == "sqlite":
        return str(tmp_path / "registry.db")
    url: str = request.getfixturevalue("postgresql_url")
    return url
