"""One generation in one thread: transformers' own `generate`, with a stop flag and own sampling.

Sampling draws from a generator of the request, not from torch's global one, so that requests that
run side by side are reproducible each by itself.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

from intrinsic.backends.backend import FinishReason, Generation, GenerationOptions
from intrinsic.backends.text_stream import TextStream


@dataclass(slots=True)
class Job:
    """A generation to run: the prompt's ids, how to decode, where its pieces go."""

    prompt_ids: list[int]
    options: GenerationOptions
    max_new_tokens: int
    emit: Callable[[str], None]
    cancelled: threading.Event = field(default_factory=threading.Event)


def run_job(model: Any, tokenizer: Any, job: Job) -> Generation:  # noqa: ANN401
    """Run a job in this thread, under whatever mixture is active in it."""
    start = time.perf_counter()
    own = model.generation_config
    text = TextStream(tokenizer, (*job.options.stop, *_texts(own.stop_strings)))
    streamer = _Pieces(text, job)
    config = _generation_config(own, tokenizer, job)
    # `generate` fills what the config leaves open from the model's own one, which may ask for
    # beams or several sequences; a shallow copy of the model has only this one.
    model = copy.copy(model)
    model.generation_config = config
    ids = torch.tensor([job.prompt_ids], device=model.device)
    with torch.no_grad():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            streamer=streamer,
            logits_processor=_sampling(job.options, model.device),
            stopping_criteria=StoppingCriteriaList([_Stop(text, job)]),
        )
    new = output[0, len(job.prompt_ids) :].tolist()
    ended = text.stopped or bool(new and new[-1] in _ids(config.eos_token_id))
    reason: FinishReason = "stop" if ended else "length"
    spent_ms = (time.perf_counter() - start) * 1e3
    return Generation("".join(streamer.pieces), len(new), len(job.prompt_ids), reason, spent_ms)


class _Pieces(BaseStreamer):  # type: ignore[misc]
    """Passes finished text on; the first ids that `generate` puts are the prompt's."""

    def __init__(self, text: TextStream, job: Job) -> None:
        self.pieces: list[str] = []
        self._text = text
        self._job = job
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self._pass_on(self._text.push(value.reshape(-1).tolist()))

    def end(self) -> None:
        self._pass_on(self._text.finish())

    def _pass_on(self, piece: str) -> None:
        if piece:
            self.pieces.append(piece)
            self._job.emit(piece)


class _Stop(StoppingCriteria):  # type: ignore[misc]
    """Ends a generation that was cancelled or met one of its stop strings."""

    def __init__(self, text: TextStream, job: Job) -> None:
        self._text = text
        self._job = job

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object
    ) -> torch.Tensor:
        done = self._job.cancelled.is_set() or self._text.stopped
        return torch.full((input_ids.shape[0],), done, device=input_ids.device)


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws the next token and leaves it as the only one, so that greedy decoding takes it."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        drawn = torch.multinomial(scores.softmax(-1), 1, generator=self._generator)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)


def _sampling(options: GenerationOptions, device: torch.device) -> LogitsProcessorList:
    if options.temperature == 0.0:
        return LogitsProcessorList()
    generator = torch.Generator(device=device)
    if options.seed is None:
        generator.seed()
    else:
        generator.manual_seed(options.seed)
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(float(options.temperature))]
    if options.top_k:
        steps.append(TopKLogitsWarper(options.top_k))
    if options.top_p < 1.0:
        steps.append(TopPLogitsWarper(float(options.top_p)))
    return LogitsProcessorList([*steps, _Draw(generator)])


_KEPT = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "sequence_bias",
    "no_repeat_ngram_size",
)


def _generation_config(own: Any, tokenizer: Any, job: Job) -> Any:  # noqa: ANN401
    """One greedy sequence, with the model's own end marks and the tokens that it may not write."""
    kept = {name: value for name in _KEPT if (value := getattr(own, name, None)) is not None}
    penalty = job.options.repetition_penalty
    if penalty is None:
        penalty = getattr(own, "repetition_penalty", None)
    config = GenerationConfig(
        **kept,
        do_sample=False,
        max_new_tokens=job.max_new_tokens,
        repetition_penalty=None if penalty is None else float(penalty),
    )
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.eos_token_id
    if config.pad_token_id is None:
        ends = _ids(config.eos_token_id)
        pad = tokenizer.pad_token_id
        config.pad_token_id = pad if pad is not None else (ends[0] if ends else 0)
    return config


def _ids(value: int | list[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)


def _texts(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else [text for text in value or () if text]
