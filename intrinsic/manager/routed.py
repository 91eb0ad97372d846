"""What was routed is loaded as far as it can be; a request never fails for its adapters."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from intrinsic.errors import CapacityError
from intrinsic.manager.loader import AdapterLoader
from intrinsic.mixture import Mixture
from intrinsic.receipt import Skipped
from intrinsic.registry import AdapterRegistry
from intrinsic.selection import Selection

logger = logging.getLogger("intrinsic.manager")


async def load_what_loads(
    loader: AdapterLoader, registry: AdapterRegistry, chosen: Sequence[Selection]
) -> tuple[list[Selection], list[Skipped]]:
    """Bring a router's choice onto the device without waiting; leave out what does not load."""
    sound: list[Selection] = []
    failed: list[Skipped] = []
    for selection in chosen:
        try:
            await loader.load([registry.get_adapter(selection.adapter).key], wait=False)
        except CapacityError as error:
            logger.info("%s is loaded when its request starts: %s", selection.adapter, error)
        except Exception as error:
            logger.warning("adapter %s is skipped: %s", selection.adapter, error)
            failed.append(Skipped(selection.adapter, str(error)))
            continue
        sound.append(selection)
    return sound, failed


async def hold_what_fits(
    loader: AdapterLoader, mixture: Mixture
) -> tuple[Mixture, tuple[Skipped, ...]]:
    """Hold a mixture, less the adapters that cannot be had; at the least the base."""
    skipped: list[Skipped] = []
    while True:
        try:
            await loader.hold(mixture.adapters)
            return mixture, tuple(skipped)
        except Exception as error:
            unfit = await _least_fit(loader, mixture)
            logger.warning("adapter %s is left out of a request: %s", unfit, error)
            skipped.append(Skipped(unfit, str(error)))
            mixture = Mixture.of([(a, w) for a, w in mixture.entries if a != unfit])


async def _least_fit(loader: AdapterLoader, mixture: Mixture) -> str:
    """The adapter that cannot be loaded even by itself, else the one of least weight."""
    by_weight = sorted(mixture.entries, key=lambda entry: abs(entry[1]))
    for adapter, _ in by_weight:
        try:
            await loader.load([adapter], wait=False)
        except CapacityError:
            continue
        except Exception:
            return adapter
    return by_weight[0][0]
