"""What bus, plugin call and manager add to a request, beside embedding and generation.

    python -m benchmarks request --json

A plugin chooses one of three tiny adapters at random per event, so that nothing is embedded.
Timed: publishing the event until its receipt is there, and taking and giving back the lease.
Beside it, for scale: the same with the hybrid router on queries whose vectors are cached.
"""

from __future__ import annotations

import argparse
import gc
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import torch

from intrinsic import (
    AdapterCard,
    AdapterRegistry,
    MemoryBus,
    MemoryEvent,
    Selection,
    TransformersBackend,
    hookimpl,
    setup_weight_interface,
)
from intrinsic.plugins import PluginManager
from tests.tiny import llama, tokenizer, write_adapter

NAMES = ("medical", "legal", "coding")
WARM_UP = 200


class Choose:
    """A routing plugin that answers at once."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    @hookimpl
    async def select_adapters(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
        return [Selection(self._random.choice(candidates).name, 0.9)]


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure both; times in milliseconds, median and 99th percentile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks request")
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    plain = anyio.run(_measure, options.events, PluginManager.with_builtins(), Choose(options.seed))
    routed = anyio.run(_measure, options.events, PluginManager.with_builtins(), None)
    return {
        "request_overhead_p50_ms": plain[0],
        "request_overhead_p99_ms": plain[1],
        "with_hybrid_router_p50_ms": routed[0],
        "with_hybrid_router_p99_ms": routed[1],
        "events": options.events,
        "seed": options.seed,
    }


async def _measure(
    events: int, plugins: PluginManager, choose: Choose | None
) -> tuple[float, float]:
    if choose is not None:
        plugins.register(choose)
    model = llama()
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            card = {"name": name, "description": f"{name} questions", "examples": [f"ask {name}"]}
            write_adapter(Path(folder) / name, model, card=card)
        registry = AdapterRegistry.from_folder(folder)
        backend = TransformersBackend(model, tokenizer())
        async with MemoryBus(plugins=plugins) as bus:
            manager, _ = setup_weight_interface(bus, backend, registry)
            spent: list[float] = []
            gc.collect()
            for number in range(events + WARM_UP):
                event = MemoryEvent.from_text(f"ask {NAMES[number % 3]}", session_id="s")
                start = time.perf_counter()
                await bus.publish(event)
                async with manager.lease(event):
                    pass
                spent.append((time.perf_counter() - start) * 1e3)
    timed = np.array(spent[WARM_UP:])
    return float(np.median(timed)), float(np.percentile(timed, 99))
