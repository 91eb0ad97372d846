"""The base model of the hypernetwork's benchmark: a small Llama, made here, kept in a folder.

Some rows say the task in words before the string, the others say nothing, so that it can be asked
either way. It sees the trained tasks of its split alone.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks._hypernet_tasks import LAST, Composed, Split
from benchmarks._hypernet_words import (
    LETTERS,
    NEW_SKILL,
    NEW_TEMPLATES,
    ORDERS,
    SIGNS,
    STYLES,
    TEMPLATES,
    UNKNOWN,
)
from intrinsic.training.optim import make_optimizers, scale_learning_rates, warm_then_linear
from intrinsic.training.scoring import IGNORED, Encoded, pad_batch

STEPS = 1_600
ROWS = 128
RATE = 0.5
"""Of the learning rates that larger models have: with those, some operations are never learned."""
SIGNS_ALONE = LETTERS + LETTERS.upper() + "0123456789*().-,;:" + LAST


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per character of a string, one per word of a description; spaces are no tokens."""
    words = sorted(_words() - set(SIGNS_ALONE))
    tokens = ["<pad>", "<s>", "</s>", *SIGNS_ALONE, *words]
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<pad>"))
    known = "|".join(sorted(words, key=lambda word: (-len(word), word)))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split(Regex(rf"\b(?:{known})\b|."), "isolated"),
        ]
    )
    core.decoder = decoders.Fuse()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def prompted(description: str, prompt: str) -> str:
    """A prompt that says the task in words."""
    return f"{description}: {prompt}"


def encode(words: PreTrainedTokenizerFast, rows: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Ids of prompts and answers, with labels for the answers and their end marks."""
    prompts, answers = zip(*rows, strict=True)
    before = words(list(prompts))["input_ids"]
    after = words([f"{answer}</s>" for answer in answers], add_special_tokens=False)["input_ids"]
    return [Encoded(b + a, [IGNORED] * len(b) + a) for b, a in zip(before, after, strict=True)]


def base_of(split: Split, cache: Path, *, steps: int = STEPS) -> LlamaForCausalLM:
    """The base of a split: from the cache, or trained and put there."""
    folder = cache / f"base-{split.number}-{steps}"
    if not (folder / "config.json").is_file():
        model = _trained(split, steps)
        model.save_pretrained(folder)
        tokenizer().save_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def _fresh(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def _trained(split: Split, steps: int) -> LlamaForCausalLM:
    model, words = _fresh(split.number), tokenizer()
    source = random.Random(f"pre-training {split.number}")
    plain, told = _all_rows(split.trained, words)
    optimizers = make_optimizers(model)
    started = time.perf_counter()
    for step in range(steps):
        rows = source.choices(told if step % 2 else plain, k=ROWS)
        loss = _loss(model, rows)
        torch.autograd.backward(loss)
        scale_learning_rates(optimizers, RATE * warm_then_linear(step / steps))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 250 in (0, 1):
            spent = time.perf_counter() - started
            print(
                f"  base {split.number}: {step} {loss:.3f} {spent:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return model.eval()


def _all_rows(
    tasks: tuple[Composed, ...], words: PreTrainedTokenizerFast
) -> tuple[list[Encoded], list[Encoded]]:
    """Rows of all tasks, without and with a description."""
    plain, told = [], []
    for task in tasks:
        descriptions = task.descriptions(32, 0)
        for at, (prompt, answer) in enumerate(task.rows(256, 1)):
            plain.append((prompt, answer))
            told.append((prompted(descriptions[at % len(descriptions)], prompt), answer))
    return encode(words, plain), encode(words, told)


def _loss(model: LlamaForCausalLM, rows: list[Encoded]) -> torch.Tensor:
    ids, labels = pad_batch(rows)
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    wanted = targets != IGNORED
    logits = model.lm_head(hidden[wanted])
    return torch.nn.functional.cross_entropy(logits, targets[wanted])


def _words() -> set[str]:
    operations = (*ORDERS, *SIGNS, *STYLES, NEW_SKILL, UNKNOWN)
    said = [text for one in operations for text in (*one.wordings, *one.new_wordings)]
    text = " ".join([*said, *TEMPLATES, *NEW_TEMPLATES])
    return set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text)))
