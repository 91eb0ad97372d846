"""The seam to a model; everything above it is the same for any backend, and needs no torch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from intrinsic.backends.generation import Generation, Piece
from intrinsic.backends.options import GREEDY, GenerationOptions
from intrinsic.backends.prompt import Prompt
from intrinsic.mixture import BASE, Mixture

if TYPE_CHECKING:
    from intrinsic.lora import LoraCheckpoint, MergeMethod


class Capability(StrEnum):
    """What a backend may be able to do."""

    GENERATE = "generate"
    STREAM = "stream"
    SCORE = "score"
    LORA = "lora"
    MERGE = "merge"
    FINGERPRINT = "fingerprint"
    PREFETCH = "prefetch"
    OFFER = "offer"


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """Log-likelihood (nats, summed over tokens) that the model gives an answer."""

    log_likelihood: float
    tokens: int

    @property
    def per_token(self) -> float:
        """Mean log-likelihood of a token, in nats."""
        return self.log_likelihood / self.tokens


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """An adapter on a backend: its id, the bytes it takes on the device, and the load time."""

    id: str
    bytes_used: int
    layers: int
    load_ms: float


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Checked adapters that a backend keeps in host memory, and what that was worth.

    `hits` are reads of files that were spared, `misses` those that were done, prefetches included:
    the first use after a prefetch is neither. `evictions` gave way to others. `max_bytes` 0 is
    off. `bytes_by_path` is by the adapter's absolute path.
    """

    bytes_used: int = 0
    max_bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    bytes_by_path: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class ModelBackend(Protocol):
    """A model that answers under mixtures of the adapters loaded on it.

    Calls for which `supports` says no raise `CapabilityError`.
    """

    @property
    def name(self) -> str:
        """The model's name, for people."""
        ...

    def get_capabilities(self) -> frozenset[Capability]:
        """Everything that this backend can do."""
        ...

    def supports(self, capability: Capability | str) -> bool:
        """Whether this backend can do one thing."""
        ...

    async def load_lora_adapter(
        self, adapter_path: str, adapter_name: str, scaling: float = 1.0
    ) -> AdapterInfo:
        """Put an adapter on the model under the id `adapter_name`, all of it or nothing."""
        ...

    async def unload_lora_adapter(self, adapter_name: str) -> None:
        """Take an adapter off the model; one that a request uses is refused."""
        ...

    async def prefetch_lora_adapter(self, adapter_path: str) -> int:
        """Read and check an adapter into host memory; return the bytes it takes once loaded.

        One that does not fit the limit is checked and not kept.
        """
        ...

    def offer_lora_adapter(self, adapter_path: str, checkpoint: LoraCheckpoint) -> None:
        """Hold an adapter without files in host memory, to be loaded by a path that is no folder.

        It stays until it is forgotten. Raises `CapacityError` where it does not fit the limit.
        """
        ...

    def forget_lora_adapter(self, adapter_path: str) -> None:
        """Let an adapter go from host memory; one that is not there is no error."""
        ...

    def limit_host_memory(self, max_bytes: int | None) -> None:
        """Keep at most so many bytes in host memory; 0 keeps none, None is the backend's own."""
        ...

    def host_memory(self) -> HostMemory:
        """What is in host memory now."""
        ...

    async def merge(self, mixture: Mixture, method: MergeMethod | None = None) -> None:
        """Write a mixture into the weights, by the exact sum or another method of merging."""
        ...

    async def break_even_tokens(self, mixture: Mixture) -> float:
        """After so many tokens a merge of the mixture, which is loaded, has paid for itself."""
        ...

    async def restore(self) -> None:
        """Copy the pristine weights back."""
        ...

    async def fingerprint(self) -> str:
        """SHA-256 of the weights as they are."""
        ...

    async def generate(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> Generation:
        """Answer a prompt under a mixture."""
        ...

    def stream(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[str, None]:
        """Answer a prompt under a mixture, piece by piece."""
        ...

    def pieces(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[Piece | Generation, None]:
        """Answer a prompt as `stream` does, with counts; last of all comes the whole."""
        ...

    async def score(
        self, prompt: Prompt, answers: Sequence[str], *, mixture: Mixture = BASE
    ) -> list[AnswerScore]:
        """Log-likelihoods of answers to a prompt under a mixture, in the order given."""
        ...
