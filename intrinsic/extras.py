"""Optional features: what to install where one is missing."""

from __future__ import annotations

from typing import Literal

Extra = Literal[
    "endpoint",
    "langchain",
    "onnx",
    "otel",
    "plots",
    "postgres",
    "pydantic-ai",
    "serve",
    "train",
    "watch",
]
"""The extras of the distribution that add features."""


def how_to_install(extra: Extra) -> str:
    """The end of a sentence on a package that is missing."""
    return f"install it with: pip install 'intrinsic-lora[{extra}]'"
