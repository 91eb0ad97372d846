"""A plugin for the server under test: on SIGUSR1 it writes down what is alive in the process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import torch

from intrinsic.bus import MemoryBus
from intrinsic.hookspecs import hookimpl

REPORT = "SERVE_PROBE_REPORT"


@hookimpl
def register_handlers(bus: MemoryBus, interface: Any) -> None:  # noqa: ANN401
    """Listen for the signal on the server's event loop."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: _report(bus, interface, loop))
    loop.add_signal_handler(signal.SIGUSR2, tracemalloc.start)


def _report(bus: MemoryBus, interface: Any, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ANN401
    gc.collect()
    stats = interface.manager.get_stats()
    tensors = {
        storage.data_ptr(): storage.nbytes()
        for found in gc.get_objects()
        if issubclass(type(found), torch.Tensor)
        for storage in (found.untyped_storage(),)
    }
    report = {
        "python_bytes": tracemalloc.get_traced_memory()[0],
        "tensor_bytes": sum(tensors.values()),
        "resident_bytes": _resident_bytes(),
        "tasks": len(asyncio.all_tasks(loop)),
        "threads": threading.active_count(),
        "leases": stats["leases"],
        "tier_bytes": stats["l1_used_bytes"] + stats["l2_used_bytes"],
        "bus_in_flight": bus.statistics().in_flight,
    }
    path = Path(os.environ[REPORT])
    made = path.with_suffix(".new")
    made.write_text(json.dumps(report))
    made.replace(path)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
