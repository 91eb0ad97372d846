"""What other processes change in a registry, taken over as it happens."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio

from intrinsic.errors import ConfigError, RegistryError
from intrinsic.registry.catalog import AdapterCatalog

logger = logging.getLogger("intrinsic.registry")


async def follow(
    catalog: AdapterCatalog,
    *,
    every_s: float = 1.0,
    heard: Callable[[int], object] | None = None,
) -> None:
    """Look every so many seconds for changes of other processes; ends when cancelled.

    A look costs one small query where nothing has changed. `heard` is told after each look how
    many versions have changed. A registry that fails is logged once, and looked at again. Raises
    `ConfigError` for a time that is no positive number.
    """
    is_number = isinstance(every_s, int | float) and not isinstance(every_s, bool)
    if not is_number or not math.isfinite(every_s) or every_s <= 0:
        raise ConfigError(f"every_s is {every_s!r}; it must be a positive number of seconds")
    failing = False
    while True:
        try:
            count = await catalog.catch_up()
        except RegistryError as error:
            if not failing:
                logger.warning("%s is not followed for now: %s", catalog.database.shown, error)
            failing = True
        else:
            failing = False
            if heard is not None:
                heard(count)
        await anyio.sleep(every_s)
