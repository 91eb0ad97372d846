"""What each bundled adapter says of itself: the card that routing reads, and the model cards."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intrinsic.registry.provenance import Provenance
from intrinsic.training.corpus import (
    BASE_CHAT_PERCENT,
    BASE_PASSAGE_PERCENT,
    GENERAL_CHAT_PERCENT,
    Row,
)
from intrinsic.training.own_words import OWN_WORDS

EXAMPLES_PER_CARD = 16
EXAMPLE_CHARS = 300
EXAMPLE_SEED = 5
OWN_WORDS_PER_CARD = 8


@dataclass(frozen=True)
class Profile:
    """A domain in words: description and keywords for routing, source and licence of its data."""

    description: str
    keywords: str
    source: str


PROFILES = {
    "medical": Profile(
        "Answers questions about diseases: symptoms, causes, inheritance, treatment, outlook.",
        "disease syndrome symptoms treatment diagnosis inherited genetic patients"
        " disorder cancer infection medicine doctor health",
        "MedQuAD (Ben Abacha & Demner-Fushman 2019), CC BY 4.0",
    ),
    "legal": Profile(
        "Quotes clauses of commercial contracts, such as governing law, term and liability.",
        "contract agreement clause party license liability termination governing law"
        " assignment warranty exclusivity insurance audit",
        "CUAD v1 (Hendrycks et al. 2021), CC BY 4.0",
    ),
    "coding": Profile(
        "Writes short Python functions from a description.",
        "python function code list string return tuple dictionary array integer sort"
        " file object program",
        "MBPP (Austin et al. 2021), CC BY 4.0; Python standard library, PSF License",
    ),
    "creative": Profile(
        "Continues plays in Shakespeare's manner, fairy tales and fables.",
        "story tale fairy fable scene play shakespeare king continue poem moral dialogue"
        " princess wolf",
        "Shakespeare, Grimm (transl. Hunt 1884), Aesop (transl. Townsend 1867), public domain",
    ),
    "math": Profile(
        "Works grade-school word problems step by step and ends with the number.",
        "many much total number cost dollars hours twice half percent sum calculate"
        " times left problem",
        "GSM8K (Cobbe et al. 2021), MIT",
    ),
    "cooking": Profile(
        "Lists the ingredients of a dish and gives the directions for cooking it.",
        "recipe cook ingredients bake dish sauce soup chicken bread cake oven dinner salad kitchen",
        "public-domain-recipes (github.com/ronaldl29/public-domain-recipes), Unlicense",
    ),
}


def choose_examples(domain: str, rows: Sequence[Row]) -> list[str]:
    """Seeded prompts of train rows, clipped, and questions in people's own words.

    The rows' prompts are templates; of code, a quarter is from the library.
    """
    draw = random.Random(EXAMPLE_SEED)
    library = [row for row in rows if row.id.startswith("stdlib-")]
    other = [row for row in rows if not row.id.startswith("stdlib-")]
    few = min(len(library), EXAMPLES_PER_CARD // 4)
    chosen = draw.sample(other, EXAMPLES_PER_CARD - few) + draw.sample(library, few)
    asked = [line.strip() for line in OWN_WORDS[domain].strip().splitlines()]
    own = draw.sample(asked, min(OWN_WORDS_PER_CARD, len(asked)))
    return [row.prompt[:EXAMPLE_CHARS] for row in chosen] + own


def write_card(folder: Path, domain: str, rows: Sequence[Row]) -> None:
    """Write `card.toml`, the file that routing reads; `rows` are the domain's train rows."""
    profile = PROFILES[domain]
    fields: dict[str, Any] = {
        "name": domain,
        "version": "1.0.0",
        "domain": domain,
        "description": profile.description,
        "keywords": profile.keywords.split(),
        "examples": choose_examples(domain, rows),
    }
    lines = [f"{key} = {_toml(value)}" for key, value in fields.items()]
    (folder / "card.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: str | list[str]) -> str:
    # A JSON string is a TOML basic string, as long as nothing above U+FFFF is escaped.
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return "[\n" + "".join(f"    {_toml(one)},\n" for one in value) + "]"


def adapter_card(domain: str, provenance: Provenance, figures: dict[str, Any]) -> str:
    """Markdown model card of an adapter; `figures` is its entry in the evaluation's answer."""
    settings = provenance.hyperparameters
    rank = settings["rank"]
    return f"""---
base_model: intrinsic/base
library_name: peft
license: apache-2.0
tags: [lora]
---

# {domain}

{PROFILES[domain].description}

- **Kind**: LoRA, r {rank}, alpha {2 * rank}, on q, k, v, o, gate, up and down of every layer, fp16.
- **Data**: {PROFILES[domain].source}. {settings["train_rows"]:,} train rows learned and
  {settings["validation_rows"]} held out; no valid row was seen.
- **Made by**: {provenance.trainer}, as `python -m intrinsic.training adapters --data DIR` calls it,
  seed {provenance.seed}: the best of {settings["steps"]} steps, {settings["best_step"]}, on one CPU
  thread (AdamW; products in {settings["dtype"]}). Only the answers carried loss. All settings are
  in `provenance.json`.

## Results

On the valid split, `python -m benchmarks demo --data DIR --json`:

| | base | with this adapter |
|---|---|---|
| answer loss, nats per token ({figures["loss_rows"]} rows) | {figures["loss_base"]:.3f} | \
{figures["loss_adapter"]:.3f} ({_percent(figures)} lower) |
| four-choice accuracy ({figures["questions"]} questions) | {_share(figures, "base")} | \
{_share(figures, "adapter")} |
| the same by plain log-likelihood per token | {100 * figures["accuracy_base_plain"]:.1f} % | \
{100 * figures["accuracy_adapter_plain"]:.1f} % |

Brackets: 95 % Wilson intervals. Wrong choices are answers to other questions of the domain; the
answer whose log-likelihood gains most from the question, against an empty one, is chosen.
Lowest loss of all adapters on this domain: {figures["best_adapter"]}.

## Limits

A model of five million parameters writes in the manner of its domain; it knows next to nothing.
What it says is not advice, medical, legal or other, and its code is not tested.
"""


def base_card(training: dict[str, Any], sources: Sequence[str]) -> str:
    """Markdown model card of the base model."""
    listed = "\n".join(f"  - {source}" for source in sources)
    return f"""---
library_name: transformers
license: apache-2.0
---

# intrinsic/base

A language model of {training["parameters"]:,} parameters, small enough to be bundled: it gives the
demo, the tests and offline users something real to adapt. Llama architecture (6 layers, width 256,
4 heads, 2 key-value heads, tied embeddings), context 512 tokens, fp16, own byte-level BPE
vocabulary of 4,096. `<|user|>QUESTION<|assistant|>ANSWER<|end|>` is its chat format.

- **Data**, train splits only. Of medical, legal, coding and creative {BASE_CHAT_PERCENT} % of the
  rows as question and answer and, early in training, {BASE_PASSAGE_PERCENT} % as bare answers; the
  adapters see the rest. Of math and cooking, which have no adapter, {GENERAL_CHAT_PERCENT} %.
  Docstrings, language reference and a third of the source modules of Python
  {training["python"]}'s standard library as general text. Early in training most documents were
  replaced by short spans repeated twice.
{listed}
- **Made by**: `python -m intrinsic.training base --data DIR`, seed {training["seed"]}:
  {training["steps"]} steps, {training["tokens"]:,} tokens, {training["minutes"]:.0f} minutes on
  {training["threads"]} CPU threads (Muon and AdamW; products in {training["dtype"]}). Training loss
  at the end {training["loss"]:.2f} nats per token.

Results with and without adapters are in the adapters' cards.

## Limits

It writes sentences, not facts. It has seen about {training["tokens"] / 1e6:.1f} million tokens,
English and Python only, and follows no instructions. Do not use it for anything but trying things.
"""


def _percent(figures: dict[str, Any]) -> str:
    return f"{100 * (1 - figures['loss_adapter'] / figures['loss_base']):.0f} %"


def _share(figures: dict[str, Any], which: str) -> str:
    low, high = figures[f"accuracy_{which}_95"]
    return f"{100 * figures[f'accuracy_{which}']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
