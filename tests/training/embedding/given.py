"""A tiny random encoder on disk, and texts whose labels share meaning but few words."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from intrinsic.training.embedding.plan import EmbeddingPlan
from intrinsic.training.lora.job import TrainingJob

WORDS = {
    "weather": "rain sun wind snow fog storm hail frost",
    "food": "bread soup rice cheese egg cake bean salt",
    "music": "song drum flute choir tune harp note beat",
    "money": "coin loan bank debt cash price fee bill",
}
FILLERS = ["the", "a", "of", "my", "is", "it", "for", "and", "what", "how"]
PLAN = EmbeddingPlan(
    rank=4, learning_rate=2e-2, batch_pairs=4, epochs=2, every=8, dropout=0.1, device="cpu"
)


def labelled(count: int = 48, seed: int = 0) -> list[dict[str, str]]:
    """Rows of four labels, each of two words of the label among fillers."""
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        label = sorted(WORDS)[len(found) % len(WORDS)]
        words = draw.sample(WORDS[label].split(), 2) + draw.sample(FILLERS, 3)
        found.setdefault(" ".join(words), label)
    return [{"text": text, "label": label} for text, label in found.items()]


def pairs(count: int = 48, seed: int = 0, *, negatives: bool = False) -> list[dict[str, str]]:
    """Rows of a query and a text of the same label, and perhaps one of another."""
    draw = random.Random(seed)
    rows = labelled(3 * count, seed)
    found = []
    for row in rows[:count]:
        same = [one["text"] for one in rows[count:] if one["label"] == row["label"]]
        other = [one["text"] for one in rows[count:] if one["label"] != row["label"]]
        made = {"query": row["text"], "positive": draw.choice(same)}
        found.append(made | ({"negative": draw.choice(other)} if negatives else {}))
    return found


def write_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Write a random BERT of two layers, with mean pooling, as sentence-transformers does."""
    torch.manual_seed(seed)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *FILLERS, *" ".join(WORDS.values()).split()]
    words += ["search:", "text:"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    plain = folder.with_name(f"{folder.name}-plain")
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(plain)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).eval().save_pretrained(plain)
    first = Transformer(str(plain))
    SentenceTransformer(modules=[first, Pooling(32)], device="cpu").save(str(folder))
    return folder


def job_in(folder: Path, **changed: Any) -> TrainingJob:
    """Train adapter `mine` with `folder/base` and `folder/rows.jsonl` to `folder/mine`."""
    job = TrainingJob(
        base=str(folder / "base"), data=folder / "rows.jsonl", name="mine", out=folder / "mine"
    )
    return replace(job, **changed)
