"""A backend without a model, which records what is asked of it and can be made to fail."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import anyio

from intrinsic.backends import (
    AdapterInfo,
    AnswerScore,
    Capability,
    Generation,
    GenerationOptions,
    HostMemory,
    Piece,
    Prompt,
)
from intrinsic.backends.options import GREEDY
from intrinsic.errors import AdapterInUseError, CapabilityError, CheckpointError
from intrinsic.lora import LoraCheckpoint, MergeMethod
from intrinsic.mixture import BASE, Mixture
from intrinsic.registry import AdapterRegistry
from tests.tiny import write_files


class FakeBackend:
    """Loads in no time; `broken` adapters fail to load, `gate` holds generations back."""

    name = "fake"

    def __init__(self, *, broken: Sequence[str] = (), bytes_each: int = 100) -> None:
        self.broken = set(broken)
        self.bytes_each = bytes_each
        self.stuck: set[str] = set()
        self.loaded: list[str] = []
        self.most_loaded = 0
        self.calls: list[tuple[str, object]] = []
        self.merged: Mixture | None = None
        self.break_even = 2.0
        self.running: list[Mixture] = []
        self.gate: anyio.Event | None = None
        self.capabilities = frozenset(Capability) - {Capability.PREFETCH, Capability.OFFER}

    def get_capabilities(self) -> frozenset[Capability]:
        return self.capabilities

    def supports(self, capability: Capability | str) -> bool:
        return capability in self.capabilities

    async def load_lora_adapter(
        self, adapter_path: str, adapter_name: str, scaling: float = 1.0
    ) -> AdapterInfo:
        await anyio.lowlevel.checkpoint()
        if adapter_name.split("@")[0] in self.broken:
            raise CheckpointError(f"{adapter_path} is broken")
        assert adapter_name not in self.loaded
        self.loaded.append(adapter_name)
        self.most_loaded = max(self.most_loaded, len(self.loaded))
        self.calls.append(("load", adapter_name))
        return AdapterInfo(adapter_name, self.bytes_each, 2, 0.5)

    async def unload_lora_adapter(self, adapter_name: str) -> None:
        if adapter_name in self.stuck or any(adapter_name in m.adapters for m in self.running):
            raise AdapterInUseError(adapter_name)
        self.loaded.remove(adapter_name)
        self.calls.append(("unload", adapter_name))

    async def prefetch_lora_adapter(self, adapter_path: str) -> int:
        raise CapabilityError("fake has no host memory")

    def offer_lora_adapter(self, adapter_path: str, checkpoint: LoraCheckpoint) -> None:
        raise CapabilityError("fake has no host memory")

    def forget_lora_adapter(self, adapter_path: str) -> None:
        raise CapabilityError("fake has no host memory")

    def limit_host_memory(self, max_bytes: int | None) -> None:
        raise CapabilityError("fake has no host memory")

    def host_memory(self) -> HostMemory:
        raise CapabilityError("fake has no host memory")

    async def merge(self, mixture: Mixture, method: MergeMethod | None = None) -> None:
        assert not self.running
        assert self.merged is None
        self.merged = mixture
        self.calls.append(("merge", method))

    async def break_even_tokens(self, mixture: Mixture) -> float:
        assert set(mixture.adapters) <= set(self.loaded)
        self.calls.append(("break even", mixture))
        return self.break_even

    async def restore(self) -> None:
        assert not self.running
        self.merged = None
        self.calls.append(("restore", None))

    async def fingerprint(self) -> str:
        return "base"

    async def generate(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> Generation:
        assert set(mixture.adapters) <= set(self.loaded)
        assert self.merged in (None, mixture)
        self.running.append(mixture)
        try:
            if self.gate is not None:
                await self.gate.wait()
            await anyio.lowlevel.checkpoint()
        finally:
            self.running.remove(mixture)
        return Generation(f"{prompt} under {mixture.entries}", 1, 1, "stop", 1.0)

    async def stream(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[str, None]:
        words = (await self.generate(prompt, mixture=mixture)).text.split()
        self.running.append(mixture)
        try:
            for word in words:
                yield word
        finally:
            self.running.remove(mixture)

    async def pieces(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[Piece | Generation, None]:
        words = list[str]()
        async with aclosing(self.stream(prompt, mixture=mixture, options=options)) as stream:
            async for word in stream:
                words.append(word)
                yield Piece(word)
        yield Generation(" ".join(words), len(words), 1, "stop", 1.0)

    async def score(
        self, prompt: Prompt, answers: Sequence[str], *, mixture: Mixture = BASE
    ) -> list[AnswerScore]:
        return [AnswerScore(-float(len(answer)), 1) for answer in answers]


class TieredBackend(FakeBackend):
    """Has host memory, without a limit of its own; `misfits` are sound and fail on the device.

    `most_bytes` is what the device held at most; `sizes` are bytes by name where they differ.
    """

    def __init__(self, *, broken: Sequence[str] = (), bytes_each: int = 100) -> None:
        super().__init__(broken=broken, bytes_each=bytes_each)
        self.capabilities = frozenset(Capability)
        self.host: dict[str, int] = {}
        self.max_host_bytes: int | None = -1
        self.sizes: dict[str, int] = {}
        self.misfits: set[str] = set()
        self.most_bytes = 0

    async def load_lora_adapter(
        self, adapter_path: str, adapter_name: str, scaling: float = 1.0
    ) -> AdapterInfo:
        info = await super().load_lora_adapter(adapter_path, adapter_name, scaling)
        name = adapter_name.split("@")[0]
        if name in self.misfits:
            self.loaded.remove(adapter_name)
            raise CheckpointError(f"{adapter_path} does not fit")
        held = sum(self._size(key.split("@")[0]) for key in self.loaded)
        self.most_bytes = max(self.most_bytes, held)
        return replace(info, bytes_used=self._size(name))

    async def prefetch_lora_adapter(self, adapter_path: str) -> int:
        await anyio.lowlevel.checkpoint()
        name = Path(adapter_path).name
        self.calls.append(("prefetch", name))
        if name in self.broken:
            raise CheckpointError(f"{adapter_path} is broken")
        if self.max_host_bytes != 0:
            self.host[adapter_path] = self._size(name)
        return self._size(name)

    def offer_lora_adapter(self, adapter_path: str, checkpoint: LoraCheckpoint) -> None:
        self.host[adapter_path] = checkpoint.bytes_used

    def forget_lora_adapter(self, adapter_path: str) -> None:
        self.host.pop(adapter_path, None)

    def limit_host_memory(self, max_bytes: int | None) -> None:
        self.max_host_bytes = max_bytes

    def host_memory(self) -> HostMemory:
        limit = 1000 if self.max_host_bytes is None else self.max_host_bytes
        return HostMemory(sum(self.host.values()), limit, 1, 2, 3, dict(self.host))

    def _size(self, name: str) -> int:
        return self.sizes.get(name, self.bytes_each)


def registry_of(folder: Path, names: str, *, max_loaded: int = 2) -> AdapterRegistry:
    """A registry of adapters that are only folders with a config."""
    registry = AdapterRegistry(max_loaded=max_loaded)
    for name in names:
        registry.register_adapter(write_files(folder / name, {}), name=name, domain=name * 2)
    return registry
