"""The seam to a model; everything above it is the same for any backend, and needs no torch."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict, runtime_checkable

from intrinsic.errors import ConfigError
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


class ChatMessage(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


Prompt = str | Sequence[ChatMessage]
"""A text (one user turn where the model has a chat template), or the turns themselves."""

FinishReason = Literal["stop", "length"]

_COLDEST = 1e-4


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How to decode. Temperature 0 is greedy; `seed` fixes what is drawn otherwise.

    `stop` are strings that end the text and are not part of it. A `repetition_penalty` of None is
    the model's own. Raises `ConfigError`.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        penalty, seed = self.repetition_penalty, self.seed
        limits = {
            "max_new_tokens": (_is_int(self.max_new_tokens, 1), "an integer, 1 or more"),
            "temperature": (
                _is_number(self.temperature)
                and (self.temperature == 0.0 or self.temperature >= _COLDEST),
                f"0 (greedy), or a number of {_COLDEST} or more",
            ),
            "top_p": (
                _is_number(self.top_p) and 0.0 < self.top_p <= 1.0,
                "a number above 0 and at most 1",
            ),
            "top_k": (_is_int(self.top_k, 0), "an integer, 0 (off) or more"),
            "seed": (
                seed is None or (_is_int(seed, 0) and seed < 2**63),
                "an integer from 0 to 2**63 - 1, or None",
            ),
            "repetition_penalty": (
                penalty is None or (_is_number(penalty) and penalty > 0.0),
                "a number above 0, or None for the model's own",
            ),
            "stop": (
                isinstance(self.stop, Sequence)
                and not isinstance(self.stop, str)
                and all(isinstance(text, str) and text for text in self.stop),
                "a sequence of strings that are not empty",
            ),
        }
        for name, (valid, words) in limits.items():
            if not valid:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {words}")


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


GREEDY = GenerationOptions()


@dataclass(frozen=True, slots=True)
class Generation:
    """A generated text, how it ended, and what it took; the time is in milliseconds."""

    text: str
    tokens: int
    prompt_tokens: int
    finish_reason: FinishReason
    generate_ms: float


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

    async def score(
        self, prompt: Prompt, answers: Sequence[str], *, mixture: Mixture = BASE
    ) -> list[AnswerScore]:
        """Log-likelihoods of answers to a prompt under a mixture, in the order given."""
        ...
