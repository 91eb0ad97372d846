"""The body of a completion."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from intrinsic.backends import RawPrompt
from intrinsic.server.envelope import ApiError
from intrinsic.server.openai.sampling import MOST_CHOICES, Sampling

_MOST_IDS = 1_000_000
_LONGEST_ID = 2**31
LENGTH = 16
"""OpenAI's length of a completion for which nobody says one."""

Ids = Annotated[list[Annotated[int, Field(ge=0, lt=_LONGEST_ID)]], Field(max_length=_MOST_IDS)]
PromptForms = str | list[str] | Ids | list[Ids]


def _prompts(value: Any) -> Any:  # noqa: ANN401
    """A list of texts and lists of token ids."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        value = [value]
    if isinstance(value, list) and not all(isinstance(one, str) or _are_ids(one) for one in value):
        raise ValueError(
            f"a prompt is a text, a list of token ids below {_LONGEST_ID}, or a list of such"
        )
    return value


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(
        type(one) is int and 0 <= one < _LONGEST_ID for one in value
    )


class CompletionRequest(Sampling):
    """What `POST /v1/completions` takes. Prompts go to the model without a template."""

    harmless: ClassVar[frozenset[str]] = frozenset({"user", "suffix", "best_of"})

    prompt: Annotated[
        list[str | Ids],
        BeforeValidator(_prompts, json_schema_input_type=PromptForms),
        Field(min_length=1, max_length=MOST_CHOICES),
    ]
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def prompts(self) -> list[RawPrompt]:
        """Each prompt, for the backend."""
        return [
            RawPrompt(one) if isinstance(one, str) else RawPrompt(ids=tuple(one))
            for one in self.prompt
        ]

    def check(self) -> None:
        """Raise a 400 for what would change the answer and is not served."""
        self.refuse(("suffix", "put what is to follow into the prompt"))
        best_of = (self.model_extra or {}).get("best_of")
        if best_of not in (None, self.choices):
            raise ApiError(400, "best_of is not served here; ask for 'n' choices and choose")
        if self.echo and self.logprobs is not None:
            raise ApiError(
                400, "echo with logprobs is not served here, as prompts are not scored; drop one"
            )
        if len(self.prompt) * self.choices > MOST_CHOICES:
            raise ApiError(
                400,
                f"{len(self.prompt)} prompts with n={self.choices} were asked for; at most "
                f"{MOST_CHOICES} choices are given at once",
            )
