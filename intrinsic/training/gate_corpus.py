"""The queries that the gate is fitted and scored on, by source: CLINC150 and the text domains."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from intrinsic.card import AdapterCard
from intrinsic.routing.card_vectors import own_texts
from intrinsic.training.own_words import DOMAIN_CARDS, OWN_WORDS

FILES = {"coding": "mbpp_{split}.jsonl"}


@dataclass(frozen=True, slots=True)
class Query:
    """A text, and whose it is: an intent or a text domain; empty for out of scope."""

    text: str
    intent: str = ""
    domain: str = ""


@dataclass
class Corpus:
    """The queries of one split by source, and the cards."""

    intents: dict[str, list[Query]] = field(default_factory=lambda: defaultdict(list))
    domains: dict[str, list[Query]] = field(default_factory=lambda: defaultdict(list))
    texts: dict[str, list[Query]] = field(default_factory=lambda: defaultdict(list))
    own_words: dict[str, list[Query]] = field(default_factory=dict)
    out_of_scope: list[Query] = field(default_factory=list)
    cards: dict[tuple[str, str], AdapterCard] = field(default_factory=dict)


def read_corpus(data: Path, split: str, *, cap: int = 800) -> Corpus:
    """Read one split; of a text domain at most `cap` distinct prompts."""
    corpus = Corpus()
    for row in _rows(data / "routing" / f"clinc150_{split}.jsonl"):
        query = Query(row["text"], row["intent"], row["domain"])
        if "out_of_scope" in (row["intent"], row["domain"]):
            corpus.out_of_scope.append(Query(row["text"]))
        else:
            corpus.intents[query.intent].append(query)
            corpus.domains[query.domain].append(query)
    for row in _rows(data / "routing" / "clinc150_cards.jsonl"):
        title = row["name"].replace("_", " ")
        corpus.cards[row["kind"], row["name"]] = AdapterCard(
            row["name"], domain=title, description=row["description"]
        )
    for card in DOMAIN_CARDS:
        file = FILES.get(card.name, "{split}.jsonl").format(split=split)
        prompts = list(dict.fromkeys(row["prompt"] for row in _rows(data / card.name / file)))
        if len(prompts) > cap:
            prompts = random.Random(0).sample(prompts, cap)
        corpus.texts[card.name] = [Query(prompt, domain=card.name) for prompt in prompts]
        if split == "train":
            asked = [line.strip() for line in OWN_WORDS[card.name].strip().splitlines()]
            corpus.own_words[card.name] = [Query(text, domain=card.name) for text in asked]
        corpus.cards["text", card.name] = card
    return corpus


def all_texts(*corpora: Corpus) -> list[str]:
    """Return every text of the corpora that a simulated registry may hold or be asked."""
    texts = [
        text for corpus in corpora for card in corpus.cards.values() for text in own_texts(card)
    ]
    for corpus in corpora:
        for source in (
            corpus.intents,
            corpus.texts,
            corpus.own_words,
            {"": corpus.out_of_scope},
        ):
            texts += [query.text for queries in source.values() for query in queries]
    return texts


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
