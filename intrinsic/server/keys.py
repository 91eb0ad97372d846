"""The two keys: a plain one to ask with, an admin one to change things with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that are known; neither is shown."""

    admin_key: str = field(repr=False)
    api_key: str = field(repr=False)
