"""A model that is only a function from text to text: no weights, so no adapters."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from intrinsic.backends.backend import AdapterInfo, AnswerScore, Capability, HostMemory
from intrinsic.backends.generation import Generation, Piece
from intrinsic.backends.options import GREEDY, GenerationOptions
from intrinsic.backends.prompt import Prompt, Question, RawPrompt
from intrinsic.backends.prompt_encoder import turns_of
from intrinsic.errors import CapabilityError
from intrinsic.mixture import BASE, Mixture

if TYPE_CHECKING:
    from intrinsic.lora import LoraCheckpoint, MergeMethod


class FunctionBackend:
    """Serves `answer(prompt) -> text`, for instance a hosted model behind somebody's client.

    It can generate and nothing else: the manager notices and answers with the base model.
    Tokens are not known here and are counted as words. A raw prompt is passed on as its text.
    """

    def __init__(self, answer: Callable[[Question], Awaitable[str]], *, name: str = "function"):
        self._answer = answer
        self._name = name

    @property
    def name(self) -> str:
        """The name given."""
        return self._name

    def get_capabilities(self) -> frozenset[Capability]:
        """Only `generate` and `stream`."""
        return frozenset({Capability.GENERATE, Capability.STREAM})

    def supports(self, capability: Capability | str) -> bool:
        """Whether this backend can do one thing."""
        return capability in self.get_capabilities()

    async def generate(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> Generation:
        """Ask the function.

        Raises `CapabilityError` for a mixture that is not the base, for token ids, and where
        log-probabilities are asked for.
        """
        if mixture:
            self._refuse("apply a mixture")
        if options.logprobs is not None:
            self._refuse("tell log-probabilities")
        if isinstance(prompt, RawPrompt):
            prompt = self._refuse("read token ids") if prompt.text is None else prompt.text
        asked = " ".join(turn["content"] for turn in turns_of(prompt))
        start = time.perf_counter()
        text = await self._answer(prompt)
        spent_ms = (time.perf_counter() - start) * 1e3
        return Generation(text, len(text.split()), len(asked.split()), "stop", spent_ms)

    async def stream(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[str, None]:
        """Give the function's answer in one piece."""
        yield (await self.generate(prompt, mixture=mixture, options=options)).text

    async def pieces(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[Piece | Generation, None]:
        """Give the function's answer in one piece, and as a whole."""
        generation = await self.generate(prompt, mixture=mixture, options=options)
        yield Piece(generation.text, generation.tokens)
        yield generation

    async def load_lora_adapter(
        self, adapter_path: str, adapter_name: str, scaling: float = 1.0
    ) -> AdapterInfo:
        """Raises `CapabilityError`."""
        self._refuse("load an adapter")

    async def unload_lora_adapter(self, adapter_name: str) -> None:
        """Raises `CapabilityError`."""
        self._refuse("unload an adapter")

    async def prefetch_lora_adapter(self, adapter_path: str) -> int:
        """Raises `CapabilityError`."""
        self._refuse("prefetch an adapter")

    def offer_lora_adapter(self, adapter_path: str, checkpoint: LoraCheckpoint) -> None:
        """Raises `CapabilityError`."""
        self._refuse("hold an adapter")

    def forget_lora_adapter(self, adapter_path: str) -> None:
        """There is nothing to forget."""

    def limit_host_memory(self, max_bytes: int | None) -> None:
        """Raises `CapabilityError`."""
        self._refuse("keep adapters in host memory")

    def host_memory(self) -> HostMemory:
        """Raises `CapabilityError`."""
        self._refuse("keep adapters in host memory")

    async def merge(self, mixture: Mixture, method: MergeMethod | None = None) -> None:
        """Raises `CapabilityError`."""
        self._refuse("merge a mixture")

    async def break_even_tokens(self, mixture: Mixture) -> float:
        """Raises `CapabilityError`."""
        self._refuse("merge a mixture")

    async def restore(self) -> None:
        """There is nothing to restore."""

    async def fingerprint(self) -> str:
        """Raises `CapabilityError`."""
        self._refuse("digest weights")

    async def score(
        self, prompt: Prompt, answers: Sequence[str], *, mixture: Mixture = BASE
    ) -> list[AnswerScore]:
        """Raises `CapabilityError`."""
        self._refuse("score answers")

    def _refuse(self, action: str) -> NoReturn:
        raise CapabilityError(
            f"backend {self.name!r} cannot {action}: it has no access to weights; "
            "use a TransformersBackend"
        )
