"""Which rows may share a batch."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import torch

from intrinsic.backends.forward import Forward
from intrinsic.backends.row import Row
from intrinsic.engine import LoraEngine
from intrinsic.errors import MixtureError
from intrinsic.mixture import BASE, Mixture

logger = logging.getLogger("intrinsic.backends")


class Mixing:
    """Asks the model, once for each set of layers, whether they keep rows apart."""

    def __init__(self, forward: Forward, engine: LoraEngine) -> None:
        self._forward = forward
        self._engine = engine
        self._known: dict[frozenset[str], bool] = {}

    def may_share(self, rows: Collection[Row]) -> bool:
        """Whether rows may take their steps together, each under its own mixture."""
        if len(rows) > 1 and any(row.alone for row in rows):
            return False
        mixtures = {row.mixture for row in rows}
        return len(mixtures) == 1 or self._keeps_apart(mixtures)

    def _keeps_apart(self, mixtures: Collection[Mixture]) -> bool:
        used = {adapter for mixture in mixtures for adapter in mixture.adapters}
        layers = frozenset(
            layer for held in self._engine.loaded if held.id in used for layer in held.layers
        )
        if layers not in self._known:
            answer = self._ask([Mixture.of(dict.fromkeys(used, 1.0)), BASE])
            if answer is None:
                return False
            self._known[layers] = answer
        return self._known[layers]

    def _ask(self, mixtures: Sequence[Mixture]) -> bool | None:
        """None where it cannot be found out now, as where memory has run out."""
        device = self._forward.model.device
        ids = torch.zeros(len(mixtures), 3, dtype=torch.long, device=device)
        try:
            with self._engine.activate(mixtures), torch.no_grad():
                self._forward.model(input_ids=ids, use_cache=False)
        except MixtureError:
            return False
        except Exception as error:
            logger.warning("mixtures take turns for now: %s", error)
            return None
        return True
