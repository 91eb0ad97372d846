"""The backend's host memory, as the manager sees it: by adapter."""

from __future__ import annotations

from intrinsic.backends import Capability, HostMemory, ModelBackend
from intrinsic.registry import AdapterRegistry


class HostCopies:
    """Which adapters are in host memory. A backend that cannot prefetch has none there."""

    def __init__(
        self, backend: ModelBackend, registry: AdapterRegistry, max_bytes: int | None
    ) -> None:
        self._backend = backend
        self._registry = registry
        self._adapters: dict[str, str] = {}  # keys by path, of all that were asked for
        if backend.supports(Capability.PREFETCH):
            backend.limit_host_memory(max_bytes)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept here at all."""
        return self.memory().max_bytes > 0

    def memory(self) -> HostMemory:
        """The backend's own counters."""
        if not self._backend.supports(Capability.PREFETCH):
            return HostMemory()
        return self._backend.host_memory()

    def holds(self, key: str) -> bool:
        """Whether an adapter's checkpoint is here."""
        return key in self.bytes_by_adapter()

    def bytes_by_adapter(self) -> dict[str, int]:
        """Bytes by adapter, least recently used first."""
        used = self.memory().bytes_by_path
        return {self._adapters.get(path, path): size for path, size in used.items()}

    def path_of(self, key: str) -> str:
        """Where the files of an adapter lie that is about to be read."""
        path = self._registry.get_adapter(key).path
        self._adapters[str(path.absolute())] = key
        self._adapters[str(path)] = key  # of what has no folder, and was offered by that name
        return str(path)

    def forget(self, key: str) -> None:
        """Let an adapter go from host memory, wherever it was read from."""
        for path in [path for path, known in self._adapters.items() if known == key]:
            del self._adapters[path]
            if self._backend.supports(Capability.PREFETCH):
                self._backend.forget_lora_adapter(path)

    async def bring(self, key: str) -> int:
        """Read and check an adapter, and keep it where it fits; returns its bytes once loaded."""
        return await self._backend.prefetch_lora_adapter(self.path_of(key))
