"""Which adapters a call asks for: a name, a mixture, or one of these per text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TypeAlias

from intrinsic.embedding.item import DEFAULT, Place
from intrinsic.errors import (
    AdapterNotFoundError,
    CapacityError,
    EncoderError,
    MixtureError,
    UnsupportedAdapterError,
)
from intrinsic.mixture import BASE, Mixture
from intrinsic.registry import AdapterRegistry

BASE_NAME = "base"
"""What calls name the encoder without any adapter."""

Adapter: TypeAlias = "str | Mixture | Mapping[str, float] | None"
"""`name`, `name@version`, "base", "default", a mixture or weights by name; None is the default.

"base" has no effect in a mixture.
"""

Adapters: TypeAlias = "Adapter | Sequence[Adapter]"
"""One for all texts, or one per text."""


class Asking:
    """Turns what a call asks for into mixtures of known adapters.

    `places` is where the files of those lie that were asked for, `default` what serves a call
    that names none.
    """

    def __init__(self, registry: AdapterRegistry | None, max_loaded: int) -> None:
        self.places: dict[str, Place] = {}
        self.default = BASE
        self._registry = registry
        self._max_loaded = max_loaded

    def mixtures(self, adapters: Adapters, texts: int) -> list[Mixture]:
        """One mixture per text.

        Raises `AdapterNotFoundError`, `EncoderError` for another number of them than of texts,
        and `CapacityError` for a mixture of more adapters than may be loaded.
        """
        if adapters is None or isinstance(adapters, str | Mapping | Mixture):
            return [self.mixture(adapters)] * texts
        if not isinstance(adapters, Sequence):
            return [self.mixture(adapters)]
        if len(adapters) != texts:
            raise EncoderError(
                f"{len(adapters)} adapters were given for {texts} texts; give one for all, or one "
                "per text"
            )
        found: dict[str, Mixture] = {}
        mixtures = []
        for adapter in adapters:
            if not isinstance(adapter, str):
                mixtures.append(self.mixture(adapter))
                continue
            if adapter not in found:
                found[adapter] = self.mixture(adapter)
            mixtures.append(found[adapter])
        return mixtures

    def mixture(self, adapter: Adapter) -> Mixture:
        """The mixture that one text asks for; raises as `mixtures` does."""
        if adapter is None:
            return self.default
        if isinstance(adapter, str):
            return BASE if adapter == BASE_NAME else Mixture.of({self._known(adapter): 1.0})
        if not isinstance(adapter, Mixture | Mapping):
            raise EncoderError(
                f"an adapter is given as {adapter!r:.80}; it must be a name, a Mixture, or "
                "weights by name"
            )
        weights = adapter.entries if isinstance(adapter, Mixture) else _weights(adapter)
        made = Mixture.of((self._known(name), w) for name, w in weights if name != BASE_NAME)
        counted = [name for name in made.adapters if name != DEFAULT]
        if len(counted) > self._max_loaded:
            raise CapacityError(
                f"a mixture of {len(counted)} adapters does not fit max_loaded="
                f"{self._max_loaded}; use fewer or raise it"
            )
        return made

    def _known(self, name: str) -> str:
        """The name that an adapter's files are kept under: `name@version`, or "default"."""
        if name in (DEFAULT, BASE_NAME) and name in self.places:
            return name
        if self._registry is None or not self._registry.knows(name):
            known = (
                [entry.key for entry in self._registry.list_adapters()] if self._registry else []
            )
            raise AdapterNotFoundError.of(name, [*known, *self.places.keys() & {DEFAULT}])
        entry = self._registry.get_adapter(name)
        if entry.made:
            raise UnsupportedAdapterError(
                f"adapter {entry.key!r} was made in memory for another model and has no files; "
                "save it to a folder and register that"
            )
        if entry.key not in self.places or self.places[entry.key].path != entry.path:
            self.places[entry.key] = Place(entry.path)
        return entry.key


def _weights(given: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    for name, weight in given.items():
        if not isinstance(weight, Real):
            raise MixtureError(f"weight of adapter {name!r} is {weight!r:.80}; it must be a number")
    return given.items()
