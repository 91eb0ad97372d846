"""From logits to tokens to text, for one request: penalties, sampling, stop marks.

Sampling draws from a generator of the request, not from torch's global one, so that requests that
run side by side are reproducible each by itself.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from intrinsic.backends.generation import FinishReason, Generation, Piece, TokenLogprob
from intrinsic.backends.job import Job
from intrinsic.backends.options import GenerationOptions
from intrinsic.backends.penalties import CountPenalty, LogitBias
from intrinsic.backends.text_stream import TextStream
from intrinsic.backends.token_log import TokenLog


class Decoder:
    """Chooses a request's tokens, and passes its text on to the job's `emit`.

    What the model's own generation config forbids or penalises is respected.
    """

    def __init__(self, model: Any, tokenizer: Any, job: Job) -> None:  # noqa: ANN401
        own = model.generation_config
        self.job = job
        self.new_ids: list[int] = []
        self.ends = end_ids(own, tokenizer)
        asked = job.options.logprobs
        self._log = None if asked is None else TokenLog(tokenizer, asked)
        self.processors = LogitsProcessorList(
            [
                *([] if self._log is None else [self._log]),
                *_own_rules(own, job, self.ends, model.device),
                *_asked_rules(job, model.device),
                *_sampling(job.options, model.device),
            ]
        )
        self._text = TextStream(tokenizer, (*job.options.stop, *_texts(own.stop_strings)))
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._told = 0

    @property
    def ids(self) -> list[int]:
        """The prompt's ids and those that were chosen since."""
        return [*self.job.prompt_ids, *self.new_ids]

    @property
    def stopped(self) -> bool:
        """Whether an end mark or a stop string was met."""
        return self._text.stopped or bool(self.new_ids and self.new_ids[-1] in self.ends)

    @property
    def finished(self) -> bool:
        """Whether nothing more is to be chosen."""
        return self.stopped or len(self.new_ids) >= self.job.max_new_tokens

    def choose(self, logits: torch.Tensor) -> int:
        """Choose the token that follows `ids`.

        Shape: logits `(vocabulary,)`.
        """
        scores = logits[None].float()
        if self.processors:
            ids = torch.tensor([self.ids], device=scores.device)
            for rule in self.processors:  # calling the list inspects each one's signature, anew
                scores = rule(ids, scores)
        return int(scores.argmax())

    def push(self, token: int) -> None:
        """Take the token that was chosen, and pass on the text that is final by now."""
        self.new_ids.append(token)
        if token in self.ends:  # which need not be a special token, that decoding leaves out
            return
        if self._log is not None:
            self._log.push(token)
        self._pass_on(self._text.push([token]))

    def finish(self) -> Generation:
        """Pass on what is left of the text, and return all of it."""
        self._pass_on(self._text.finish(), last=True)
        reason: FinishReason = "stop" if self.stopped else "length"
        spent_ms = (time.perf_counter() - self.job.started) * 1e3
        return Generation(
            "".join(self._pieces),
            len(self.new_ids),
            len(self.job.prompt_ids),
            reason,
            spent_ms,
            tuple(self._logprobs),
        )

    def _pass_on(self, text: str, *, last: bool = False) -> None:
        logprobs: tuple[TokenLogprob, ...] = ()
        if self._log is not None:
            text_so_far = self._text
            last = last or text_so_far.stopped
            logprobs = self._log.take(text_so_far.decoded, text_so_far.released, last=last)
            self._logprobs += logprobs
        if text or logprobs:
            count = len(self.new_ids)
            self._pieces.append(text)
            self.job.emit(Piece(text, count - self._told, logprobs))
            self._told = count


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws the next token and leaves it as the only one, so that greedy decoding takes it."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        drawn = torch.multinomial(scores.softmax(-1), 1, generator=self._generator)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)


def end_ids(own: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401
    """The end marks of the model's generation config, else the tokenizer's."""
    value = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    return [] if value is None else [value] if isinstance(value, int) else list(value)


def _own_rules(
    own: Any,  # noqa: ANN401
    job: Job,
    ends: list[int],
    device: torch.device,
) -> list[LogitsProcessor]:
    """What the model's generation config says, in the order in which transformers applies it."""
    rules: list[LogitsProcessor] = []
    if own.sequence_bias is not None:
        rules.append(SequenceBiasLogitsProcessor(own.sequence_bias))
    penalty = job.options.repetition_penalty
    penalty = own.repetition_penalty if penalty is None else penalty
    if penalty is not None and penalty != 1.0:
        rules.append(RepetitionPenaltyLogitsProcessor(float(penalty)))
    if own.no_repeat_ngram_size:
        rules.append(NoRepeatNGramLogitsProcessor(own.no_repeat_ngram_size))
    if own.bad_words_ids is not None:
        rules.append(NoBadWordsLogitsProcessor(own.bad_words_ids, ends))
    if own.suppress_tokens is not None:
        rules.append(SuppressTokensLogitsProcessor(own.suppress_tokens, device=device))
    if own.begin_suppress_tokens is not None:
        first = len(job.prompt_ids)
        begin = SuppressTokensAtBeginLogitsProcessor(own.begin_suppress_tokens, first, device)
        rules.append(begin)
    return rules


def _asked_rules(job: Job, device: torch.device) -> list[LogitsProcessor]:
    """What the request adds to the model's rules."""
    options, rules = job.options, list[LogitsProcessor]()
    if options.logit_bias:
        rules.append(LogitBias(options.logit_bias, device))
    if options.frequency_penalty or options.presence_penalty:
        penalties = float(options.frequency_penalty), float(options.presence_penalty)
        rules.append(CountPenalty(len(job.prompt_ids), *penalties))
    return rules


def _sampling(options: GenerationOptions, device: torch.device) -> list[LogitsProcessor]:
    if options.temperature == 0.0:
        return []
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
    if options.min_p:
        steps.append(MinPLogitsWarper(float(options.min_p)))
    return [*steps, _Draw(generator)]


def _texts(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else [text for text in value or () if text]
