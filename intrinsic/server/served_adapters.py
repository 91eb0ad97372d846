"""What the routes about adapters share."""

from __future__ import annotations

import time

from intrinsic.config.server_options import ServerOptions
from intrinsic.server.adapter_ids import AdapterIds
from intrinsic.server.folders import Folders
from intrinsic.server.runtime_adapters import RuntimeAdapters
from intrinsic.system import System


class ServedAdapters:
    """Where adapters may lie, which numbers they have, and what was added at run time.

    `started` is when the server did, in seconds of the epoch; `streams` listen to the bus.
    """

    def __init__(self, system: System, options: ServerOptions) -> None:
        self.streams = 0
        self.started = int(time.time())
        self.folders = Folders.of(system, options)
        self.ids = AdapterIds(system.registry)
        self.runtime = RuntimeAdapters(system, self.folders)
