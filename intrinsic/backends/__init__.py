"""The model behind a seam: what it can do, and the calls that it answers under a mixture."""

from intrinsic.backends.backend import (
    AdapterInfo,
    AnswerScore,
    Capability,
    ChatMessage,
    Generation,
    GenerationOptions,
    HostMemory,
    ModelBackend,
    Prompt,
)
from intrinsic.backends.function_backend import FunctionBackend

__all__ = [
    "AdapterInfo",
    "AnswerScore",
    "Capability",
    "ChatMessage",
    "FunctionBackend",
    "Generation",
    "GenerationOptions",
    "HostMemory",
    "ModelBackend",
    "Prompt",
]
