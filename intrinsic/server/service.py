"""What every route works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from starlette.requests import HTTPConnection

from intrinsic.bundled import BUNDLED_NAME, base_path
from intrinsic.config.server_options import ServerOptions
from intrinsic.server.keys import Keys
from intrinsic.server.metrics import ServiceMetrics
from intrinsic.server.request_queue import RequestQueue
from intrinsic.server.running import RunningRequests
from intrinsic.server.scrub import Scrubber
from intrinsic.server.served_adapters import ServedAdapters
from intrinsic.server.tracing import Tracing
from intrinsic.system import System

if TYPE_CHECKING:
    from intrinsic.embedding import EmbeddingProvider


@dataclass(eq=False)
class Service:
    """The opened system, and what belongs to serving it; `keys` None lets everybody in."""

    system: System
    options: ServerOptions
    keys: Keys | None
    tracing: Tracing = field(default_factory=Tracing)
    queue: RequestQueue = field(init=False)
    running: RunningRequests = field(init=False)
    metrics: ServiceMetrics = field(init=False)
    adapters: ServedAdapters = field(init=False)
    scrub: Scrubber = field(init=False)
    """Takes paths of this machine out of a sentence for clients."""

    def __post_init__(self) -> None:
        self.queue = RequestQueue(
            max_running=self.options.max_running, max_queued=self.options.max_queued
        )
        self.running = RunningRequests()
        self.metrics = ServiceMetrics(self.system, self.queue)
        self.adapters = ServedAdapters(self.system, self.options)
        self.scrub = Scrubber(self.adapters.folders.roots)
        self._embedding: EmbeddingProvider | None = None
        self._opening = anyio.Lock()

    @property
    def model_name(self) -> str:
        """What clients call the model."""
        if self.options.model_name is not None:
            return self.options.model_name
        loaded = Path(self.system.backend.name)
        return BUNDLED_NAME if loaded == base_path() else loaded.name

    @property
    def reserved(self) -> tuple[str, str, str]:
        """What no adapter may be called: routing, the model without adapters, the model."""
        return ("auto", "base", self.model_name)

    def issues(self) -> list[str]:
        """What the service does without, in sentences."""
        found = [self.scrub(str(problem)) for problem in self.system.plugins.problems]
        if self.system.bus.suspended is not None:
            found.append(f"the bus is suspended: {self.system.bus.suspended}")
        return found

    async def embedding(self) -> EmbeddingProvider:
        """The encoder behind `/v1/embeddings`, loaded at the first call."""
        from intrinsic.embedding import EmbeddingProvider

        async with self._opening:
            if self._embedding is None:
                provider = EmbeddingProvider(
                    self.system.settings.embedding_options(), registry=self.system.registry
                )
                await provider.initialize()
                self._embedding = provider
        return self._embedding

    async def close(self) -> None:
        """Give back what was opened here."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.tracing.close)
        if self._embedding is not None:
            await self._embedding.close()


def service_of(connection: HTTPConnection) -> Service:
    """The service that a request came to."""
    service: Service = connection.app.state.service
    return service
