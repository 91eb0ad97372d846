"""Generations one by one, by transformers' own `generate`: for models whose rows cannot share a
batch.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from contextlib import suppress
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from intrinsic.backends.decoder import Decoder
from intrinsic.backends.generation import Generation
from intrinsic.backends.job import Job
from intrinsic.engine import LoraEngine
from intrinsic.exiting import exit_waits


class AloneRunner:
    """Runs jobs one after the other, in a thread that lives while there is work.

    Models that cannot batch may keep state of a pass on their modules (recurrent states, rotary
    frequencies): whoever else runs the model holds `lock` too.
    """

    def __init__(self, model: Any, tokenizer: Any, engine: LoraEngine) -> None:  # noqa: ANN401
        self._model = model
        self._tokenizer = tokenizer
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._free = 1
        self.lock = threading.Lock()

    def submit(self, job: Job) -> None:
        """Take a job in; its `end` is called once, unless it is withdrawn."""
        with self._lock:
            self._waiting.append(job)
            if self._free:
                thread = threading.Thread(target=self._work, name="intrinsic-generate", daemon=True)
                try:
                    thread.start()
                except BaseException:
                    self._waiting.remove(job)
                    raise
                self._free -= 1

    def withdraw(self, job: Job) -> bool:
        """Take back a job that has not begun; False where it has."""
        with self._lock, suppress(ValueError):
            self._waiting.remove(job)
            return True
        return False

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                job = self._waiting.popleft()
            result: Generation | BaseException
            try:
                with exit_waits(), self.lock, self._engine.activate(job.mixture):
                    result = generate_alone(self._model, self._tokenizer, job)
            except BaseException as error:
                result = error
            job.end(result)


def generate_alone(model: Any, tokenizer: Any, job: Job) -> Generation:  # noqa: ANN401
    """Run a job in this thread, under whatever mixture is active in it."""
    decoder = Decoder(model, tokenizer, job)
    # `generate` fills what the config leaves open from the model's own one, which may ask for
    # beams or several sequences; a shallow copy of the model has only this one.
    model = copy.copy(model)
    model.generation_config = _greedy(model.generation_config, decoder, tokenizer)
    ids = torch.tensor([job.prompt_ids], device=model.device)
    with torch.no_grad():
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=model.generation_config,
            streamer=_Tokens(decoder),
            logits_processor=decoder.processors,
            stopping_criteria=StoppingCriteriaList([_Stop(decoder)]),
        )
    return decoder.finish()


class _Tokens(BaseStreamer):  # type: ignore[misc]
    """Passes new tokens on; the first ids that `generate` puts are the prompt's."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self._decoder.push(int(value))
            self._decoder.job.flush()
        self._prompt_seen = True

    def end(self) -> None: ...


class _Stop(StoppingCriteria):  # type: ignore[misc]
    """Ends a generation that was cancelled or met one of its stop strings."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object
    ) -> torch.Tensor:
        done = self._decoder.job.cancelled.is_set() or self._decoder.finished
        return torch.full((input_ids.shape[0],), done, device=input_ids.device)


def _greedy(own: Any, decoder: Decoder, tokenizer: Any) -> GenerationConfig:  # noqa: ANN401
    """One sequence; what to choose is left to the decoder's processors."""
    pad = own.pad_token_id if own.pad_token_id is not None else tokenizer.pad_token_id
    if pad is None:
        pad = decoder.ends[0] if decoder.ends else 0
    return GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=decoder.ends or None,
        pad_token_id=pad,
        do_sample=False,
        max_new_tokens=decoder.job.max_new_tokens,
    )
