"""The adapter card: what routing sees of an adapter."""

from __future__ import annotations

from dataclasses import dataclass

from intrinsic.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """Name, domain and example queries of one adapter.

    `examples` are queries that this adapter should answer; zero to hundreds.
    Raises `ConfigError` for a name that is empty or not printable.
    """

    name: str
    version: str = "1"
    domain: str = ""
    description: str = ""
    keywords: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or not self.name.isprintable():
            raise ConfigError(
                f"adapter name {self.name!r} is not valid; use a name of printable characters"
            )
        for field_name in ("version", "domain", "description"):
            value = getattr(self, field_name)
            if not isinstance(value, str):
                raise ConfigError(
                    f"{field_name} of adapter {self.name!r} is {value!r}; it must be a string"
                )
        for field_name in ("keywords", "examples"):
            value = getattr(self, field_name)
            if isinstance(value, str) or not all(isinstance(item, str) for item in value):
                raise ConfigError(
                    f"{field_name} of adapter {self.name!r} is {value!r}; "
                    "it must be a list of strings"
                )
            object.__setattr__(self, field_name, tuple(value))

    @property
    def key(self) -> str:
        """`name@version`, which names exactly one adapter."""
        return f"{self.name}@{self.version}"

    @property
    def sentence(self) -> str:
        """The card as one text for an encoder: `domain: description`."""
        parts = [part for part in (self.domain, self.description) if part]
        return ": ".join(parts) or self.name
