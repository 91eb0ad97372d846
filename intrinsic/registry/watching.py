"""A folder of adapters is watched: what is dropped into it is registered a moment later."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from intrinsic.errors import ConfigError, RegistryError
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
        import watchfiles
    except ImportError as error:
        raise ConfigError(
            f"watching a folder needs watchfiles, which cannot be imported ({error}); "
            "install it with pip install 'intrinsic-lora[watch]'"
        ) from None
    root = Path(await anyio.Path(folder).expanduser())
    if not await anyio.Path(root).is_dir():
        raise ConfigError(f"adapters folder {root} does not exist; pass an existing folder")
    said: set[str] = set()
    stop = threading.Event()
    # Not watchfiles' own async form: a task that is cancelled at the wrong moment goes on there.
    ticks = watchfiles.watch(root, rust_timeout=_TICK_MS, yield_on_timeout=True, stop_event=stop)
    try:
        # The first tick comes when the system watches already, so that nothing falls in between.
        await anyio.to_thread.run_sync(next, ticks)
        await _look(catalog, root, said, heard)
        while True:
            if await anyio.to_thread.run_sync(next, ticks):
                await _look(catalog, root, said, heard)
    finally:
        stop.set()


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
