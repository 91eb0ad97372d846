"""Prompts to token ids: the model's chat template where it has one, the plain text where not.

Raw prompts are never framed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from intrinsic.backends.prompt import ChatMessage, Prompt, Question, RawPrompt
from intrinsic.errors import BackendError


class PromptEncoder:
    """Encodes prompts and answers for one tokenizer and a context of `context_tokens`.

    Token ids that are given must be below `vocabulary`; None does not look.
    """

    def __init__(
        self,
        tokenizer: Any,  # noqa: ANN401
        context_tokens: int,
        vocabulary: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        self._vocabulary = vocabulary

    def question_ids(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt to answer. Raises `BackendError` for one without text."""
        if not isinstance(prompt, RawPrompt) and not any(
            turn["content"].strip() for turn in turns_of(prompt)
        ):
            raise BackendError("the prompt is empty; pass some text")
        return self.prompt_ids(prompt)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt, ready for the answer to follow; its text may be empty.

        Raises `BackendError` where that leaves no ids, or where they fill the context.
        """
        ids = self.all_ids(prompt)
        if not ids:
            raise BackendError("the prompt is empty; pass some text")
        if len(ids) >= self.context_tokens:
            raise BackendError(
                f"the prompt has {len(ids)} tokens and the model reads {self.context_tokens}, "
                "the answer included; shorten the prompt"
            )
        return ids

    def all_ids(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt, however many. Raises `BackendError` for ids that the model lacks."""
        if not isinstance(prompt, RawPrompt):
            return self._ids(turns_of(prompt))
        if prompt.text is not None:
            _check_text(prompt.text, "the prompt")
            return list(self.tokenizer(prompt.text)["input_ids"])
        ids = list(prompt.ids or ())
        if self._vocabulary is not None and max(ids, default=0) >= self._vocabulary:
            raise BackendError(
                f"the prompt has token {max(ids)}, and the model's are 0 to {self._vocabulary - 1}"
            )
        return ids

    def answer_ids(self, answer: str) -> list[int]:
        """Ids of an answer, without any end mark. Raises `BackendError` where there are none."""
        _check_text(answer, "an answer to score")
        ids = list(self.tokenizer(answer, add_special_tokens=False)["input_ids"])
        if not ids:
            raise BackendError("an answer to score is empty; pass some text")
        return ids

    def _ids(self, turns: list[ChatMessage]) -> list[int]:
        if self.tokenizer.chat_template:
            text = self._framed(turns)
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        text = "\n".join(turn["content"] for turn in turns)
        return list(self.tokenizer(text)["input_ids"])

    def _framed(self, turns: list[ChatMessage]) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=True
                )
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise BackendError(
                f"the model's chat template refuses the prompt: {error}; change its turns"
            ) from error


def turns_of(prompt: Question) -> list[ChatMessage]:
    """A prompt as turns. Raises `BackendError` for anything but text with a role."""
    if isinstance(prompt, str):
        _check_text(prompt, "the prompt")
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, Sequence):
        raise BackendError(
            f"the prompt is {prompt!r}; pass a text, or turns with a role and a content"
        )
    for number, turn in enumerate(cast(Sequence[object], prompt), 1):
        if not isinstance(turn, Mapping):
            raise BackendError(
                f"turn {number} of the prompt is {turn!r}; pass a role and a content"
            )
        for key in ("role", "content"):
            _check_text(turn.get(key), f"the {key} of turn {number} of the prompt")
    return [*cast(Sequence[ChatMessage], prompt)]


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str):
        raise BackendError(f"{what} is {text!r}; it must be a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BackendError(
            f"{what} is not valid Unicode: {text[error.start : error.end]!r} at position "
            f"{error.start} is half a character; pass text that was decoded from UTF-8"
        ) from error
