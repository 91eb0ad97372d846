"""The forms in which a mixture is asked for, and the weights that they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from intrinsic.mixture import Mixture
from intrinsic.receipt import Receipt
from intrinsic.registry import AdapterRegistry
from intrinsic.selection import Selection

What = Receipt | Mixture | Mapping[str, float] | Sequence[Selection] | Selection | str
"""A receipt, a mixture, weights by adapter, a router's selections, or one adapter's name."""


def weights_of(what: What, registry: AdapterRegistry) -> dict[str, float]:
    """Weights by adapter key (`name@version`), zeros left out.

    Raises `AdapterNotFoundError`, and `MixtureError` for an adapter that is named twice.
    """
    if isinstance(what, Receipt):
        return dict(what.mixture.entries)
    pairs: list[tuple[str, float]]
    if isinstance(what, str):
        pairs = [(what, 1.0)]
    elif isinstance(what, Selection):
        pairs = [(what.adapter, what.weight)]
    elif isinstance(what, Mixture):
        pairs = list(what.entries)
    elif isinstance(what, Mapping):
        pairs = list(what.items())
    else:
        pairs = [(selection.adapter, selection.weight) for selection in what]
    keyed = [(registry.get_adapter(name).key, weight) for name, weight in pairs]
    return dict(Mixture.of(keyed).entries)
