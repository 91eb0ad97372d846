"""The body of a chat completion."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from intrinsic.backends.options import MAX_LOGPROBS
from intrinsic.backends.prompt import ChatMessage
from intrinsic.server.envelope import ApiError
from intrinsic.server.openai.sampling import Sampling, Text

_ROLES = Literal["system", "developer", "user", "assistant", "tool", "function"]
_UNSERVED = (
    ("tools", "describe tools in a message, and read calls from the text"),
    ("functions", "describe them in a message, and read calls from the text"),
    ("tool_choice", "leave it out, as there are no tools"),
    ("function_call", "leave it out, as there are no functions"),
    ("audio", "ask for text"),
    ("web_search_options", "put what was found into a message"),
    ("prediction", "leave it out"),
)


class TextPart(BaseModel):
    """A part of a message's content; only text is read here."""

    type: Literal["text"]
    text: Text


def _content(value: Any) -> Any:  # noqa: ANN401
    """Joined parts. Pictures and sound are refused, since an answer would not know them."""
    if value is None:
        raise ValueError("a message has no content; pass a text, which may be empty")
    if not isinstance(value, list):
        return value
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f"a part of a message is of type {kind!r:.40}; only text is read here")
    return "".join(part["text"] for part in value)


class Message(BaseModel):
    """One turn. `developer` is another word for `system`; a name is not read."""

    role: _ROLES
    content: Annotated[Text, BeforeValidator(_content, json_schema_input_type=str | list[TextPart])]

    @model_validator(mode="before")
    @classmethod
    def _without_calls(cls, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict) and (value.get("tool_calls") or value.get("function_call")):
            raise ValueError("a message calls tools, which are not served here; write it as text")
        if isinstance(value, dict) and "content" not in value:
            raise ValueError("a message has no content; pass a text, which may be empty")
        return value

    @property
    def turn(self) -> ChatMessage:
        """As chat templates take it."""
        return {"role": _KNOWN_ROLES.get(self.role, self.role), "content": self.content}


_KNOWN_ROLES: dict[str, str] = {"developer": "system"}


class ChatRequest(Sampling):
    """What `POST /v1/chat/completions` takes."""

    harmless: ClassVar[frozenset[str]] = frozenset(
        {
            *("user", "metadata", "store", "service_tier", "safety_identifier"),
            *("prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls", "verbosity"),
            *("reasoning_effort", "modalities", "response_format", "tool_choice"),
            *("tools", "functions", "function_call"),
        }
    )

    messages: list[Message] = Field(min_length=1, max_length=4096)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)

    @property
    def turns(self) -> list[ChatMessage]:
        """The conversation, as chat templates take it."""
        return [message.turn for message in self.messages]

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to tell of each token; None tells nothing of tokens."""
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(400, "top_logprobs is given without logprobs; set 'logprobs' to true")
        return (self.top_logprobs or 0) if self.logprobs else None

    def check(self) -> None:
        """Raise a 400 for what would change the answer and is not served."""
        self.refuse(*_UNSERVED)
        extra = self.model_extra or {}
        wanted = extra.get("response_format")
        kind = wanted.get("type") if isinstance(wanted, dict) else wanted
        if kind not in (None, "text"):
            raise ApiError(
                400, f"response_format {kind!r:.40} is not served here; ask for text in a message"
            )
        modes = extra.get("modalities")
        if modes not in (None, [], ["text"]):
            raise ApiError(400, f"modalities {modes!r:.80} are not served here; ask for ['text']")
