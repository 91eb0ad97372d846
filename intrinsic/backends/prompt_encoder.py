"""Prompts to token ids: the model's chat template where it has one, the plain text where not."""

from __future__ import annotations

from typing import Any

from intrinsic.backends.backend import ChatMessage, Prompt
from intrinsic.errors import BackendError


class PromptEncoder:
    """Encodes prompts and answers for one tokenizer and a context of `context_tokens`."""

    def __init__(self, tokenizer: Any, context_tokens: int) -> None:  # noqa: ANN401
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens

    def question_ids(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt to answer. Raises `BackendError` for one without text."""
        turns = _turns(prompt)
        if not any(turn["content"].strip() for turn in turns):
            raise BackendError("the prompt is empty; pass some text")
        return self.prompt_ids(prompt)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt, ready for the answer to follow; its text may be empty.

        Raises `BackendError` where that leaves no ids, or where they fill the context.
        """
        ids = self._ids(_turns(prompt))
        if not ids:
            raise BackendError("the prompt is empty; pass some text")
        if len(ids) >= self.context_tokens:
            raise BackendError(
                f"the prompt has {len(ids)} tokens and the model reads {self.context_tokens}, "
                "the answer included; shorten the prompt"
            )
        return ids

    def answer_ids(self, answer: str) -> list[int]:
        """Ids of an answer, without any end mark. Raises `BackendError` where there are none."""
        ids = list(self.tokenizer(answer, add_special_tokens=False)["input_ids"])
        if not ids:
            raise BackendError("an answer to score is empty; pass some text")
        return ids

    def _ids(self, turns: list[ChatMessage]) -> list[int]:
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        text = "\n".join(turn["content"] for turn in turns)
        return list(self.tokenizer(text)["input_ids"])


def _turns(prompt: Prompt) -> list[ChatMessage]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
