"""What chat and completions say alike: how to decode, and under which adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from intrinsic.backends import GenerationOptions
from intrinsic.server.envelope import ApiError
from intrinsic.server.openai.lora_field import LoraField

MOST_CHOICES = 64
WHOLE_CONTEXT = 2**31 - 1
"""Backends end an answer where the model's context does."""
_COLDEST = 1e-4
_INT64 = 2**63

Text = Annotated[str, Field(max_length=4_000_000)]


def _as_list(value: Any) -> Any:  # noqa: ANN401
    return [value] if isinstance(value, str) else value


class StreamOptions(BaseModel):
    """What a stream tells besides its pieces."""

    include_usage: bool = False


class Sampling(BaseModel):
    """The fields that both have. Those of other servers are not refused; see `ignored`."""

    model_config = ConfigDict(extra="allow")

    harmless: ClassVar[frozenset[str]] = frozenset()
    """Fields of OpenAI's that change nothing of an answer."""

    model: str | None = Field(default=None, max_length=4000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MOST_CHOICES)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=100.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    seed: int | None = Field(default=None, ge=-_INT64, lt=_INT64)
    stop: Annotated[
        Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=4)]
        | None,
        BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None),
    ] = None
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    repetition_penalty: float | None = Field(default=None, gt=0.0, le=100.0)
    logit_bias: dict[Annotated[str, Field(max_length=20)], float] | None = Field(
        default=None, max_length=1000
    )
    lora: LoraField = None

    @property
    def choices(self) -> int:
        """How many answers to each prompt."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def ignored(self) -> list[str]:
        """Fields that this server does not know."""
        extra = self.model_extra or {}
        return sorted(
            name for name, value in extra.items() if value is not None and name not in self.harmless
        )

    def refuse(self, *fields: tuple[str, str]) -> None:
        """Raise a 400 for the first of those fields, each with advice, that asks for anything."""
        extra = self.model_extra or {}
        for name, advice in fields:
            if extra.get(name) not in (None, False, [], {}, "", "none", "auto"):
                raise ApiError(400, f"{name!r} is not served here; {advice}")

    def decoding(
        self, defaults: GenerationOptions, *, max_tokens: int, logprobs: int | None
    ) -> GenerationOptions:
        """The options of the first choice; what is not said is as in `defaults`."""
        cold = self.temperature is not None and self.temperature < _COLDEST
        said: dict[str, Any] = {
            "temperature": 0.0 if cold else self.temperature,
            "top_p": self.top_p,
            "top_k": None if self.top_k is None else max(0, self.top_k),
            "min_p": self.min_p,
            "seed": None if self.seed is None else self.seed % _INT64,
            "stop": None if self.stop is None else tuple(self.stop),
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "repetition_penalty": self.repetition_penalty,
            "logit_bias": None if self.logit_bias is None else _biases(self.logit_bias),
            "max_new_tokens": max_tokens,
            "logprobs": logprobs,
        }
        return replace(
            defaults, **{name: value for name, value in said.items() if value is not None}
        )

    def each(self, first: GenerationOptions) -> list[GenerationOptions]:
        """The options of every choice: choice i draws with seed + i."""
        if first.seed is None:
            return [first] * self.choices
        return [replace(first, seed=(first.seed + i) % _INT64) for i in range(self.choices)]


def _biases(given: Mapping[str, float]) -> dict[int, float]:
    found: dict[int, float] = {}
    for token, bias in given.items():
        if not (token.isascii() and token.isdigit()):
            raise ApiError(400, f"logit_bias names token {token!r:.40}; write token ids as digits")
        found[int(token)] = bias
    return found
