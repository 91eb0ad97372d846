"""The bundled adapters: rows and settings for `intrinsic train`, one adapter a domain."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from intrinsic.bundled import BUNDLED_NAME
from intrinsic.training import cards, corpus
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.plan import Dtype, LoraPlan
from intrinsic.training.tokenizer import CONTEXT_TOKENS, answer_ids, prompt_ids

STEPS = 1400
STEPS_OF_CODE = 2200
"""Code was still gaining where the others were nearly done."""


def job_for(
    domain: str, rows: Path, out: Path, *, base: str = BUNDLED_NAME, force: bool = False
) -> TrainingJob:
    """The training of one domain's adapter from its file of rows, into a folder `out`."""
    profile = cards.PROFILES[domain]
    return TrainingJob(
        base=base,
        data=rows,
        name=domain,
        description=profile.description,
        domain=domain,
        keywords=tuple(profile.keywords.split()),
        data_url=profile.source,
        out=out,
        force=force,
    )


def plan_for(domain: str, *, steps: int | None, seed: int, dtype: Dtype) -> LoraPlan:
    """The settings of a bundled adapter. Ranks differ, so that mixed ranks are met in real files.

    Of the four, `coding` has the fewest rows and learned them by heart without dropout. A few
    questions are left empty, so that an adapter also knows how likely an answer is before anything
    is asked.
    """
    coding = domain == "coding"
    return LoraPlan(
        rank=24 if coding else 32,
        dropout=0.1 if coding else 0.0,
        learning_rate=4e-3,
        epochs=8,  # `max_steps` is reached before
        max_steps=steps or (STEPS_OF_CODE if coding else STEPS),
        batch_tokens=1024,
        validation_share=0.02,
        blank_share=0.05,
        patience=0,
        seed=seed,
        dtype=dtype,
        device="cpu",
        save_dtype="fp16",
    )


def write_rows(data: Path, domain: str, tokenizer: PreTrainedTokenizerBase, out: Path) -> Path:
    """Write a domain's rows for its adapter to `out/DOMAIN.jsonl`, and return that file.

    What is longer than the model reads loses the end of its answer, at the end of a line or word.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{domain}.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for row in corpus.adapter_rows(data, domain):
            answer = fitting(tokenizer, row)
            if answer:
                line = json.dumps({"prompt": row.prompt, "response": answer}, ensure_ascii=False)
                lines.write(line + "\n")
    return file


def fitting(tokenizer: PreTrainedTokenizerBase, row: corpus.Row) -> str:
    """As much of a row's answer as the model reads after the prompt, with the end mark."""
    room = CONTEXT_TOKENS - len(prompt_ids(tokenizer, row.prompt)) - 1
    ids = answer_ids(tokenizer, row.response)
    if len(ids) <= room:
        return row.response
    text = str(tokenizer.decode(ids[: max(0, room - 1)]))
    for end in ("\n", " "):
        if end in text:
            return text.rpartition(end)[0].rstrip()
    return ""
