"""Any `AutoModelForCausalLM`, generating under mixtures of LoRA adapters."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import torch
from anyio.lowlevel import RunVar

from intrinsic.backends.adapter_size import bytes_once_loaded
from intrinsic.backends.alone import AloneRunner
from intrinsic.backends.backend import AdapterInfo, AnswerScore, Capability, HostMemory
from intrinsic.backends.generation import Generation, Piece
from intrinsic.backends.host_tier import HostTier
from intrinsic.backends.job import Job
from intrinsic.backends.options import GREEDY, GenerationOptions
from intrinsic.backends.pretrained import load_pretrained
from intrinsic.backends.prompt import Prompt, RawPrompt
from intrinsic.backends.prompt_encoder import PromptEncoder
from intrinsic.backends.rows_cache import can_batch
from intrinsic.backends.running import Runner, Running
from intrinsic.backends.scheduler import BatchScheduler, BatchStatistics
from intrinsic.backends.scoring import score_answers
from intrinsic.backends.transformers_options import MAX_ROWS, check_rows
from intrinsic.engine import LoraEngine
from intrinsic.errors import BackendError, MixtureError
from intrinsic.lora import LoraCheckpoint, MergeMethod, exact
from intrinsic.mixture import BASE, Mixture
from intrinsic.worker import run_to_end

_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("intrinsic_scoring_limiter")
_DEFAULT_CONTEXT = 2048
_GLANCE_S = 0.05


class TransformersBackend:
    """A live model with a tokenizer; weights are changed through `engine` alone.

    Tensor work runs in worker threads. Up to `max_rows` generations run in one batch, each under
    its own mixture; for models whose rows cannot share one, see `can_batch`, one at a time.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        tokenizer: Any,  # noqa: ANN401
        *,
        name: str = "",
        max_rows: int = MAX_ROWS,
    ) -> None:
        check_rows(max_rows)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.engine = LoraEngine(model)
        self._host = HostTier(pin=next(model.parameters()).is_cuda)
        self._name = name or str(getattr(model.config, "_name_or_path", "") or "model")
        context = getattr(model.config, "max_position_embeddings", None) or _DEFAULT_CONTEXT
        self._vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
        self._encoder = PromptEncoder(tokenizer, int(context), self._vocabulary)
        self._runner: Runner = (
            BatchScheduler(self.model, tokenizer, self.engine, max_rows=max_rows)
            if can_batch(self.model)
            else AloneRunner(self.model, tokenizer, self.engine)
        )

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        dtype: torch.dtype | str = "auto",
        device: str | torch.device | None = None,
        max_rows: int = MAX_ROWS,
    ) -> TransformersBackend:
        """Load a model and its tokenizer by path or hub name.

        `dtype` "auto" is what the weights were saved in, on CPU fp32 for half precision (which is
        slower there). Raises `BackendError` where transformers cannot load it.
        """
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        loaded, tokenizer = load_pretrained(str(model), dtype)
        if dtype == "auto" and chosen.type == "cpu":
            loaded = loaded.float()
        return cls(loaded.to(chosen), tokenizer, name=str(model), max_rows=max_rows)

    @property
    def name(self) -> str:
        """The name or path that the model was loaded from."""
        return self._name

    @property
    def context_tokens(self) -> int:
        """How many tokens the model reads, prompt and answer together."""
        return self._encoder.context_tokens

    def count_tokens(self, prompt: Prompt) -> int:
        """How many tokens a prompt has, framed by the chat template as `generate` frames it."""
        return len(self._encoder.all_ids(prompt))

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of token ids. Raises `BackendError` for ids that the model lacks."""
        known = self._encoder.all_ids(RawPrompt(ids=tuple(ids)))
        return str(self.tokenizer.decode(known, skip_special_tokens=True))

    def batches(self) -> BatchStatistics | None:
        """What the batches did so far; None for a model that has none."""
        return self._runner.statistics() if isinstance(self._runner, BatchScheduler) else None

    def get_capabilities(self) -> frozenset[Capability]:
        """Everything."""
        return frozenset(Capability)

    def supports(self, capability: Capability | str) -> bool:
        """Whether this backend can do one thing."""
        return capability in self.get_capabilities()

    async def load_lora_adapter(
        self, adapter_path: str, adapter_name: str, scaling: float = 1.0
    ) -> AdapterInfo:
        """Read, check and load an adapter; see `read_checkpoint` and `LoraEngine.load`.

        One that host memory holds is neither read nor checked again.

        Raises `MixtureError` for a scaling that is not finite. A load that asyncio cancels leaves
        nothing on the model.
        """
        if not isinstance(scaling, int | float) or not math.isfinite(scaling):
            raise MixtureError(
                f"scaling of adapter {adapter_name!r} is {scaling!r}; it must be a finite number"
            )

        def load() -> AdapterInfo:
            start = time.perf_counter()
            checkpoint = self._host.read(adapter_path)
            loaded = self.engine.load(checkpoint, adapter_name, scaling=scaling)
            spent_ms = (time.perf_counter() - start) * 1e3
            return AdapterInfo(adapter_name, loaded.bytes_used, len(loaded.layers), spent_ms)

        return await run_to_end(load, undo=lambda: self.engine.unload(adapter_name))

    async def prefetch_lora_adapter(self, adapter_path: str) -> int:
        """Read and check an adapter into host memory, page-locked where the model is on CUDA.

        Returns the bytes that it takes once loaded. Raises what `read_checkpoint` raises; whether
        it fits the model is seen when it is loaded.
        """

        def read() -> int:
            return bytes_once_loaded(self._host.read(adapter_path, ahead=True), self.engine.model)

        return await run_to_end(read)

    def offer_lora_adapter(self, adapter_path: str, checkpoint: LoraCheckpoint) -> None:
        """Hold a checkpoint that was made in memory; see `HostTier.offer`."""
        self._host.offer(adapter_path, checkpoint)

    def forget_lora_adapter(self, adapter_path: str) -> None:
        """Let an adapter go from host memory; see `HostTier.forget`."""
        self._host.forget(adapter_path)

    def limit_host_memory(self, max_bytes: int | None) -> None:
        """Keep at most so many bytes of adapters in host memory; see `HostTier.limit`."""
        self._host.limit(max_bytes)

    def host_memory(self) -> HostMemory:
        """What is in host memory now."""
        return self._host.statistics()

    async def unload_lora_adapter(self, adapter_name: str) -> None:
        """Take an adapter off the model; see `LoraEngine.unload`."""
        await run_to_end(self.engine.unload, adapter_name, at_once=True)

    async def merge(self, mixture: Mixture, method: MergeMethod | None = None) -> None:
        """Write a mixture into the weights; see `LoraEngine.merge`."""
        await run_to_end(self.engine.merge, mixture, method or exact, undo=self.engine.restore)

    async def break_even_tokens(self, mixture: Mixture) -> float:
        """After so many tokens a merge has paid for itself; see `LoraEngine.break_even`."""
        return (await run_to_end(self.engine.break_even, mixture)).tokens

    async def restore(self) -> None:
        """Copy the pristine weights back; see `LoraEngine.restore`."""
        await run_to_end(self.engine.restore, at_once=True)

    async def fingerprint(self) -> str:
        """SHA-256 of the weights as they are."""
        return await run_to_end(self.engine.fingerprint)

    async def generate(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> Generation:
        """Answer a prompt under a mixture. Cancelling ends the work after the current token."""
        job = await run_to_end(self._job, prompt, mixture, options)
        return await Running(self._runner, job).result()

    async def stream(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[str, None]:
        """Answer a prompt under a mixture, piece by piece; leaving the loop early ends the work."""
        async with aclosing(self.pieces(prompt, mixture=mixture, options=options)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Piece):
                    yield piece.text

    async def pieces(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[Piece | Generation, None]:
        """Answer a prompt as `stream` does, with counts; last of all comes the whole."""
        job = await run_to_end(self._job, prompt, mixture, options)
        async with aclosing(Running(self._runner, job).pieces()) as pieces:
            async for piece in pieces:
                yield piece

    async def score(
        self, prompt: Prompt, answers: Sequence[str], *, mixture: Mixture = BASE
    ) -> list[AnswerScore]:
        """Log-likelihoods of answers to a prompt under a mixture, in the order given.

        Cancelling ends the work after the current batch of answers.
        """
        stop = threading.Event()

        def score() -> list[AnswerScore]:
            prompt_ids = self._encoder.prompt_ids(prompt)
            answer_ids = [self._encoder.answer_ids(answer) for answer in answers]
            with self._exclusive(stop), self.engine.activate(mixture):
                return score_answers(
                    self.model, prompt_ids, answer_ids, self._encoder.context_tokens, stop
                )

        return await run_to_end(score, limiter=_limiter(), stop=stop)

    @contextmanager
    def _exclusive(self, stop: threading.Event) -> Iterator[None]:
        """Keep generations away from a model whose passes disturb each other."""
        if not isinstance(self._runner, AloneRunner):
            yield
            return
        lock = self._runner.lock
        while not (held := lock.acquire(timeout=_GLANCE_S)) and not stop.is_set():
            pass
        try:
            yield
        finally:
            if held:
                lock.release()

    def _job(self, prompt: Prompt, mixture: Mixture, options: GenerationOptions) -> Job:
        lacking = [token for token in options.logit_bias if token >= self._vocabulary]
        if lacking:
            raise BackendError(
                f"logit_bias names token {max(lacking)}, and the model's are 0 to "
                f"{self._vocabulary - 1}"
            )
        ids = self._encoder.question_ids(prompt)
        room = self._encoder.context_tokens - len(ids)
        return Job(ids, mixture, options, min(options.max_new_tokens, room))


def _limiter() -> anyio.CapacityLimiter:
    """The one limiter of scorings on this event loop."""
    limiter = _LIMITER.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(max(2, os.cpu_count() or 2))
        _LIMITER.set(limiter)
    return limiter
