"""Texts as vectors: any encoder of Hugging Face, with LoRA adapters on it."""

from intrinsic.embedding.options import EmbeddingOptions, InstructionForms

__all__ = ["EmbeddingOptions", "InstructionForms"]
