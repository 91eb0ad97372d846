"""What every route works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from starlette.requests import HTTPConnection

from intrinsic.config.server_options import ServerOptions
from intrinsic.server.keys import Keys
from intrinsic.server.request_queue import RequestQueue
from intrinsic.system import System

if TYPE_CHECKING:
    from intrinsic.embedding import EmbeddingProvider


@dataclass(eq=False)
class Service:
    """The opened system, and what belongs to serving it; `keys` None lets everybody in."""

    system: System
    options: ServerOptions
    keys: Keys | None
    queue: RequestQueue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = RequestQueue(
            max_running=self.options.max_running, max_queued=self.options.max_queued
        )
        self._embedding: EmbeddingProvider | None = None
        self._opening = anyio.Lock()

    @property
    def model_name(self) -> str:
        """What clients call the model."""
        return self.options.model_name or Path(self.system.backend.name).name

    async def embedding(self) -> EmbeddingProvider:
        """The encoder behind `/v1/embeddings`, loaded at the first call."""
        from intrinsic.embedding import EmbeddingProvider

        async with self._opening:
            if self._embedding is None:
                provider = EmbeddingProvider(self.system.settings.embedding_options())
                await provider.initialize()
                self._embedding = provider
        return self._embedding

    async def close(self) -> None:
        """Give back what was opened here."""
        if self._embedding is not None:
            await self._embedding.close()


def service_of(connection: HTTPConnection) -> Service:
    """The service that a request came to."""
    service: Service = connection.app.state.service
    return service
