"""Which of a router's selections may enter a mixture, and why the others may not."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from intrinsic.backends import Capability, ModelBackend
from intrinsic.errors import AdapterNotFoundError
from intrinsic.manager.options import ManagerOptions
from intrinsic.receipt import Skipped
from intrinsic.registry import AdapterRegistry
from intrinsic.selection import Selection

logger = logging.getLogger("intrinsic.manager")


class Admission:
    """Judges selections; warns once where the backend cannot change weights at all."""

    def __init__(
        self, backend: ModelBackend, registry: AdapterRegistry, options: ManagerOptions
    ) -> None:
        self._backend = backend
        self._registry = registry
        self._options = options
        self._warned = False

    def admit(
        self, selections: Sequence[Selection], *, max_loaded: int
    ) -> tuple[list[Selection], list[Skipped]]:
        """Leave out what is unknown, named twice, excluded by a group, or one too many.

        The most confident come first.
        """
        if selections and not self._backend.supports(Capability.LORA):
            return [], self._cannot(selections)
        chosen: list[Selection] = []
        skipped: list[Skipped] = []
        for selection in sorted(selections, key=lambda s: -s.confidence):
            why = _why_not(selection, chosen, self._registry, self._options, max_loaded)
            if why is None:
                chosen.append(selection)
            else:
                skipped.append(Skipped(selection.adapter, why))
        return chosen, skipped

    def _cannot(self, selections: Sequence[Selection]) -> list[Skipped]:
        why = f"backend {self._backend.name!r} has no access to weights"
        if not self._warned:
            self._warned = True
            logger.warning("%s: every request gets the base model", why)
        return [Skipped(selection.adapter, why) for selection in selections]


def _why_not(
    selection: Selection,
    chosen: Sequence[Selection],
    registry: AdapterRegistry,
    options: ManagerOptions,
    max_loaded: int,
) -> str | None:
    try:
        entry = registry.get_adapter(selection.adapter)
    except AdapterNotFoundError as error:
        return str(error)
    taken = [registry.get_adapter(s.adapter) for s in chosen]
    if entry in taken:
        return "chosen twice"
    if len(chosen) >= max_loaded:
        return f"a mixture holds at most max_loaded={max_loaded} adapters"
    names = {other.name for other in taken}
    for group in options.exclusive:
        if entry.name in group and names & group:
            return f"excluded by {', '.join(sorted(names & group))}"
    return None
