"""The model behind a seam: what it can do, and the calls that it answers under a mixture."""

from intrinsic.backends.backend import (
    AdapterInfo,
    AnswerScore,
    Capability,
    HostMemory,
    ModelBackend,
)
from intrinsic.backends.function_backend import FunctionBackend
from intrinsic.backends.generation import Generation, Piece, TokenLogprob
from intrinsic.backends.options import GenerationOptions
from intrinsic.backends.prompt import ChatMessage, Prompt, RawPrompt

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
    "Piece",
    "Prompt",
    "RawPrompt",
    "TokenLogprob",
]
