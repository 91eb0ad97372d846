"""Texts as vectors: any encoder of Hugging Face, with LoRA adapters on it."""

from intrinsic.embedding.asking import Adapter, Adapters
from intrinsic.embedding.options import EmbeddingOptions, InstructionForms
from intrinsic.embedding.provider import EmbeddingProvider

__all__ = ["Adapter", "Adapters", "EmbeddingOptions", "EmbeddingProvider", "InstructionForms"]
