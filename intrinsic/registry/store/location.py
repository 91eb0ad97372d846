"""Where a registry's database is: a file, or a PostgreSQL server by its URL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from intrinsic.errors import ConfigError

_SECRET_OPTIONS = ("password", "sslpassword", "passfile")


@dataclass(frozen=True, slots=True, repr=False)
class Location:
    """`url` as SQLAlchemy takes it, with the driver; `shown` is the same without a password."""

    url: URL
    shown: str

    @classmethod
    def of(cls, where: str | Path) -> Location:
        """Read a path or a URL; raise `ConfigError` for one that is not valid."""
        if isinstance(where, str) and "://" in where:
            return cls._of_url(where)
        return cls._of_file(Path(where))

    @property
    def file(self) -> Path | None:
        """SQLite's file; None for a server."""
        is_file = self.url.get_backend_name() == "sqlite"
        return Path(self.url.database or "") if is_file else None

    def without_secrets(self, message: str) -> str:
        """The message, should it show the password, without it."""
        secrets = [self.url.password, *(self.url.query.get(name) for name in _SECRET_OPTIONS)]
        for secret in secrets:
            if isinstance(secret, str) and secret:
                message = message.replace(secret, "***")
        return message

    @classmethod
    def _of_file(cls, path: Path) -> Location:
        try:
            file = path.expanduser().absolute()
        except RuntimeError as error:
            raise ConfigError(f"{path} cannot be found: {error}") from None
        if "\0" in str(file) or not path.name:
            raise ConfigError(f"{str(path)!r} is not valid as the registry's file; pass a path")
        return cls(URL.create("sqlite+pysqlite", database=str(file)), str(file))

    @classmethod
    def _of_url(cls, text: str) -> Location:
        try:
            url = make_url(text)
            backend = url.drivername
        except (ArgumentError, ValueError):  # whose messages may show the password
            raise ConfigError(
                "the registry's URL cannot be understood; write "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or the path of a file"
            ) from None
        if backend in ("postgres", "postgresql", "postgresql+psycopg"):
            hidden = {name: "***" for name in _SECRET_OPTIONS if name in url.query}
            shown = url.update_query_dict(hidden).render_as_string(hide_password=True)
            return cls(url.set(drivername="postgresql+psycopg"), shown)
        if backend in ("sqlite", "sqlite+pysqlite"):
            if not url.database or url.database.startswith((":", "file:")) or url.query:
                raise ConfigError(
                    "the registry's SQLite URL must name a file and nothing else, as in "
                    "sqlite:///folder/registry.db"
                )
            return cls._of_file(Path(url.database))
        raise ConfigError(
            f"the registry cannot be kept in {backend!r}; "
            "pass the path of a file, sqlite:///FILE or postgresql://HOST/DATABASE"
        )
