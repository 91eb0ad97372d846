"""Adapters by number, as llama.cpp's clients name them."""

from __future__ import annotations

from intrinsic.registry import AdapterRegistry
from intrinsic.server.envelope import ApiError


class AdapterIds:
    """A number per adapter, from 0 in the order of the names; later ones get the next.

    An adapter keeps its number for as long as the server runs, and nobody gets it afterwards.
    """

    def __init__(self, registry: AdapterRegistry) -> None:
        self._registry = registry
        self._ids: dict[str, int] = {}  # by `name@version`, in the order of the numbers
        self._keys: list[str] = []

    def all(self) -> dict[int, str]:
        """The adapters that are known, `name@version`, by number."""
        self._number()
        return {one: key for key, one in self._ids.items() if self._registry.knows(key)}

    def id_of(self, key: str) -> int:
        """The number of an adapter, `name@version`. Raises `AdapterNotFoundError`."""
        key = self._registry.get_adapter(key).key
        if key not in self._ids:
            self._number()
        return self._ids[key]

    def name_of(self, number: int) -> str:
        """The adapter (`name@version`) of a number. Raises a 400 for one that nobody has."""
        if not 0 <= number < len(self._keys):
            self._number()
        if 0 <= number < len(self._keys) and self._registry.knows(self._keys[number]):
            return self._keys[number]
        known = ", ".join(str(one) for one in list(self.all())[:20]) or "none"
        raise ApiError(
            400, f"invalid adapter id {number}; known: {known}; GET /lora-adapters lists them"
        )

    def _number(self) -> None:
        for entry in self._registry.all_versions():
            if entry.key not in self._ids:
                self._ids[entry.key] = len(self._keys)
                self._keys.append(entry.key)
