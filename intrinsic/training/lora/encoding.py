"""Rows to token ids: what the model reads when it is asked, and the answer that it is to learn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from intrinsic.backends.prompt import ChatMessage
from intrinsic.backends.prompt_encoder import PromptEncoder
from intrinsic.errors import BackendError
from intrinsic.training.lora.data_file import refuse_broken
from intrinsic.training.lora.rows import TrainingRow
from intrinsic.training.scoring import IGNORED, Encoded


class RowEncoder:
    """Encodes rows for a tokenizer, in at most `max_length` tokens; `stops` are the end marks.

    A prompt becomes the ids that a backend asks the model with. The answer is framed by the chat
    template, where there is one, up to its end mark; without any it gets the tokenizer's own.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int, stops: Sequence[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._stops = frozenset(stops)
        self._prompts = PromptEncoder(tokenizer, sys.maxsize)
        self.shortened = 0
        """How many prompts were cut so far."""

    def encode_all(self, file: Path, rows: Sequence[TrainingRow]) -> list[Encoded]:
        """Encode rows; raise `ConfigError` with the lines of those that cannot be."""
        encoded, problems = [], []
        for row in rows:
            try:
                encoded.append(self.encode(row))
            except BackendError as error:
                problems.append((row.line, str(error)))
        refuse_broken(file, problems)
        return encoded

    def encode(self, row: TrainingRow) -> Encoded:
        """Return a row's ids; a prompt that is too long loses its beginning, the answer nothing.

        A begin mark stays. Raises `BackendError` where the answer leaves no room for a token of
        the prompt, and where the chat template refuses the turns.
        """
        before = self._prompts.prompt_ids(list(row.turns))
        after = self._answer_ids(row)
        room = self._max_length - len(after)
        if room < 1:
            raise BackendError(
                f"the answer alone has {len(after)} tokens, and {self._max_length} hold answer "
                "and prompt; shorten it or raise --max-length as far as the model reads"
            )
        if len(before) > room:
            self.shortened += 1
            keeps_mark = room > 1 and before[0] == self._tokenizer.bos_token_id
            mark = before[:1] if keeps_mark else []
            before = mark + before[len(before) - room + len(mark) :]
        return Encoded(before + after, [IGNORED] * len(before) + after)

    def _answer_ids(self, row: TrainingRow) -> list[int]:
        text = self._framed(row) if self._tokenizer.chat_template else row.response
        ids = list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        for at, token in enumerate(ids):
            if token in self._stops:
                return ids[: at + 1]
        end = self._tokenizer.eos_token_id
        return ids if end is None else [*ids, int(end)]

    def _framed(self, row: TrainingRow) -> str:
        """The answer as the template writes it after the prompt, or else bare."""
        from jinja2 import TemplateError

        answer = ChatMessage(role="assistant", content=row.response)
        frame = self._tokenizer.apply_chat_template
        try:
            prompt = frame(list(row.turns), tokenize=False, add_generation_prompt=True)
            whole = frame([*row.turns, answer], tokenize=False)
        except (TemplateError, TypeError, ValueError) as error:
            raise BackendError(
                f"the model's chat template refuses the answer: {error}; change its turns"
            ) from error
        framed = str(whole).removeprefix(str(prompt))
        return framed if len(framed) < len(whole) and framed.strip() else row.response
