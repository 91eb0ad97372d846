"""A folder of adapters is watched: what is dropped into it is registered a moment later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import anyio

from intrinsic.errors import ConfigError, RegistryError
from intrinsic.extras import how_to_install
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.rescan import Rescanned, rescan

logger = logging.getLogger("intrinsic.registry")

_TICK_MS = 500


async def watch(
    catalog: AdapterCatalog,
    folder: str | Path,
    *,
    heard: Callable[[Rescanned], object] | None = None,
) -> None:
    """Rescan a folder now, and again whenever something in it changes; ends when cancelled.

    A folder that is still being copied is refused at first and registered when it is whole. What
    is refused is logged once, as is a registry that fails; then the next change is waited for.
    `heard` is told of every rescan. Raises `ConfigError` where there is no such folder, or without
    watchfiles.
    """
    try:
        from watchfiles import awatch
    except ImportError as error:
        raise ConfigError(
            f"watching a folder needs watchfiles, which cannot be imported ({error}); "
            + how_to_install("watch")
        ) from None
    root = Path(await anyio.Path(folder).expanduser())
    if not await anyio.Path(root).is_dir():
        raise ConfigError(f"adapters folder {root} does not exist; pass an existing folder")
    said: set[str] = set()
    started = False
    ticks = awatch(root, rust_timeout=_TICK_MS, yield_on_timeout=True)
    async with aclosing(ticks):
        async for changes in ticks:
            # The first tick comes when the system watches already: nothing falls in between.
            if changes or not started:
                await _look(catalog, root, said, heard)
            started = True


async def _look(
    catalog: AdapterCatalog,
    root: Path,
    said: set[str],
    heard: Callable[[Rescanned], object] | None,
) -> None:
    """Rescan; tell the log what was refused, unless that was `said` before."""
    try:
        found = await rescan(catalog, root, digests=False)
    except RegistryError as error:
        logger.warning("%s could not be looked at: %s", root, error)
        return
    for refused in found.refused:
        if (line := f"{refused.path} is left out: {refused.why}") not in said:
            said.add(line)
            logger.warning("%s", line)
    if heard is not None:
        heard(found)
