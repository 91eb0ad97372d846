"""pydantic-ai's messages as turns of a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    InstructionPart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters

from intrinsic.backends import ChatMessage


def turns_of(
    messages: Sequence[ModelMessage], parameters: ModelRequestParameters
) -> tuple[ChatMessage, ...]:
    """The conversation, with the instructions as its first turn.

    Raises `UserError` for what is no text: images, tools.
    """
    turns: list[ChatMessage] = []
    instructions = _instructions(messages, parameters)
    if instructions:
        turns.append({"role": "system", "content": instructions})
    for message in messages:
        if isinstance(message, ModelRequest):
            turns += [turn for part in message.parts for turn in _asked(part)]
        else:
            turns.append({"role": "assistant", "content": _answered(message)})
    return tuple(turns)


def session_of(messages: Sequence[ModelMessage]) -> str | None:
    """The conversation that the latest message belongs to."""
    return next(
        (found for message in reversed(messages) if (found := message.conversation_id)), None
    )


def _instructions(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> str:
    if parameters.instruction_parts is not None:
        return InstructionPart.join(parameters.instruction_parts) or ""
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    return (requests[-1].instructions if requests else None) or ""


def _asked(part: object) -> Iterator[ChatMessage]:
    if isinstance(part, SystemPromptPart):
        yield {"role": "system", "content": part.content}
    elif isinstance(part, UserPromptPart):
        content = [part.content] if isinstance(part.content, str) else part.content
        yield {"role": "user", "content": "\n\n".join(_text(one) for one in content)}
    else:
        raise UserError(f"IntrinsicModel reads text alone; a message has a {type(part).__name__}")


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, TextContent):
        return content.content
    raise UserError(f"IntrinsicModel reads text alone; a prompt has a {type(content).__name__}")


def _answered(response: ModelResponse) -> str:
    for part in response.parts:
        if not isinstance(part, TextPart | ThinkingPart):
            raise UserError(
                f"IntrinsicModel reads text alone; an answer has a {type(part).__name__}"
            )
    return "".join(part.content for part in response.parts if isinstance(part, TextPart))
