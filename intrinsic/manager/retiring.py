"""An adapter taken out of memory however long its requests take, while others come and go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from intrinsic.errors import CapacityError
from intrinsic.manager.fusion import Fusion
from intrinsic.manager.loader import AdapterLoader


async def retire(
    loader: AdapterLoader, fusion: Fusion, key: str, unless: Callable[[], bool]
) -> None:
    """Return when the adapter has left device and host, or when `unless` is true before that.

    What is merged into the weights is taken out first; what is being loaded is waited for.
    """
    while not unless():
        if key in fusion.adapters:
            with suppress(CapacityError):  # its requests run longer than `wait_timeout_s`
                await fusion.unfuse()
            continue
        await loader.unload_if_idle(key, patient=True)  # after what is being loaded
        if key not in loader.table:
            if not unless():
                loader.forget(key)
            return
        if key not in fusion.adapters:
            await loader.wait_if_held(key)
