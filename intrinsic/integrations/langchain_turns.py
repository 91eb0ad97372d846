"""LangChain's messages as turns of a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
)

from intrinsic.backends import ChatMessage as Turn
from intrinsic.errors import BackendError

_SESSIONS = ("session_id", "thread_id", "conversation_id")
_ROLES = {SystemMessage: "system", HumanMessage: "user", AIMessage: "assistant"}


def turns_of(messages: Sequence[BaseMessage]) -> tuple[Turn, ...]:
    """The conversation. Raises `BackendError` for what is no text: images, tools."""
    return tuple({"role": _role(message), "content": _text(message)} for message in messages)


def session_of(run_manager: object) -> str | None:
    """The session or thread that the run's config names, as in LangGraph's `thread_id`."""
    metadata = getattr(run_manager, "metadata", None) or {}
    return next((str(metadata[name]) for name in _SESSIONS if metadata.get(name)), None)


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    for kind, role in _ROLES.items():
        if isinstance(message, kind) and not getattr(message, "tool_calls", None):
            return role
    raise BackendError(f"ChatIntrinsic reads text alone; a message is a {type(message).__name__}")


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    for block in message.content:
        if not isinstance(block, str) and block.get("type") != "text":
            kind = block.get("type")
            raise BackendError(f"ChatIntrinsic reads text alone; a message has a block of {kind!r}")
    return "".join(
        block if isinstance(block, str) else str(block.get("text", "")) for block in message.content
    )
