"""Small random encoders, and adapters that PEFT wrote for them."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoModel, BertConfig, BertModel

from intrinsic.routing.router import Vectors
from tests.tiny import VOCABULARY, llama, tokenizer

WIDTH = 32
LIMIT = 48
TEXTS = ["a cat", "the dog that barks", "x", "", "one two three four five six", "a dog"]


def bert(folder: Path, seed: int = 0) -> Path:
    """A plain BERT of two layers with one token per character, saved by transformers."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LIMIT,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.5,
    )
    return _saved(BertModel(config), folder)


def decoder(folder: Path) -> Path:
    """A plain Llama without a head."""
    return _saved(llama().model, folder)


def sentence_bert(folder: Path, pooling: str = "mean") -> Path:
    """The BERT as a sentence-transformers model that normalises."""
    first = Transformer(str(bert(folder.with_name(f"{folder.name}-plain"))))
    model = SentenceTransformer(
        modules=[first, Pooling(WIDTH, pooling_mode=pooling), Normalize()], device="cpu"
    )
    model.save(str(folder))
    return folder


def adapter(folder: Path, model: Path, seed: int = 0, **config: Any) -> Path:
    """An adapter of random values for a saved model, written by PEFT."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], **config}
    wrapped = get_peft_model(
        AutoModel.from_pretrained(str(model)), LoraConfig(**settings, init_lora_weights=False)
    )
    wrapped.save_pretrained(str(folder))
    return folder


def by_transformers(
    model: Path, texts: list[str], *, pooling: str = "mean", lora: Path | None = None
) -> Vectors:
    """The slow way: one text at a time, by hand, under PEFT; `(n, width)`, not normalised."""
    from peft import PeftModel

    network: Any = AutoModel.from_pretrained(str(model)).eval()
    if lora is not None:
        network = PeftModel.from_pretrained(network, str(lora)).eval()
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer()(text)["input_ids"] or [0]])
        with torch.no_grad():
            hidden = network(input_ids=ids).last_hidden_state[0]
        rows.append({"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling])
    found: Vectors = torch.stack(rows).numpy()
    return found


def unit(vectors: Vectors) -> Vectors:
    """The vectors at length 1."""
    found: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def cosines(one: Vectors, other: Vectors) -> list[float]:
    """The cosine of each pair of rows; NaN where a vector is all zeros."""
    return [float(c) for c in np.sum(unit(one) * unit(other), axis=1)]


def same(one: Vectors, other: Vectors) -> bool:
    """Whether all rows agree to five digits of the cosine."""
    return all(not math.isnan(c) and c >= 0.99999 for c in cosines(one, other))


def _saved(model: Any, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(folder))
    words = tokenizer()
    words.model_max_length = LIMIT
    words.save_pretrained(str(folder))
    return folder
