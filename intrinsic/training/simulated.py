"""Simulated registries: a few intents or domains as adapters, and queries that fit or do not."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from intrinsic.card import CARD_FIELDS, AdapterCard
from intrinsic.training.gate_corpus import Corpus, Query
from intrinsic.training.own_words import FITS_TOO

EXAMPLE_COUNTS = (0, 5, 10, 20)

INTENT_COUNTS = (1, 3, 6, 12, 25, 50, 100, 150)


@dataclass(frozen=True, slots=True)
class Registry:
    """Simulated adapters and what they are asked, each with the right name or None."""

    kind: str
    cards: tuple[AdapterCard, ...]
    asked: tuple[tuple[str, str | None], ...]


def simulate(
    examples: Corpus, queries: Corpus, *, registries: int, seed: int, asked: int = 100
) -> Iterator[Registry]:
    """Make registries whose examples and queries never share a text."""
    rng = random.Random(seed)
    for at in range(registries):
        kind = ("intent", "domain", "text", "intent", "text", "mixed")[at % 6]
        n_examples = rng.choice(EXAMPLE_COUNTS)
        yield _registry(rng, kind, examples, queries, n_examples=n_examples, asked=asked)


def whole_registry(
    examples: Corpus, queries: Corpus, kind: str, *, n_examples: int, seed: int
) -> Registry:
    """Make one registry of every intent or domain, asked every query of a split."""
    rng = random.Random(seed)
    cards = []
    for name, pool in sorted(_source(examples, kind).items()):
        shown = tuple(query.text for query in rng.sample(pool, min(n_examples, len(pool))))
        cards.append(replace(examples.cards[kind, name], examples=shown))
    asked: list[tuple[str, str | None]] = [(query.text, None) for query in queries.out_of_scope]
    for name, pool in sorted(_source(queries, kind).items()):
        asked += [(query.text, name) for query in pool]
    return Registry(kind, tuple(cards), tuple(asked))


def bundled_registry(folder: Path, valid: Corpus) -> Registry:
    """Make a registry of the adapters in `folder`, asked their domains' prompts and CLINC150."""
    cards = []
    for file in sorted(folder.glob("*/card.toml")):
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        cards.append(AdapterCard(**{key: values[key] for key in CARD_FIELDS if key in values}))
    names = {card.name for card in cards}
    served = set[str]().union(*(FITS_TOO.get(name, set()) for name in names))
    strangers = [
        query for name, pool in valid.intents.items() if name not in served for query in pool
    ]
    asked: list[tuple[str, str | None]] = [(q.text, None) for q in strangers + valid.out_of_scope]
    asked += [(q.text, name) for name in sorted(names) for q in valid.texts.get(name, [])]
    return Registry("bundled", tuple(cards), tuple(asked))


def _registry(
    rng: random.Random,
    kind: str,
    examples: Corpus,
    queries: Corpus,
    *,
    n_examples: int,
    asked: int,
    size: int | None = None,
) -> Registry:
    members = _members(rng, kind, examples, size)
    cards, taken = [], set()
    for source, name in members:
        pool = _source(examples, source)[name]
        own = examples.own_words.get(name, [])
        n_own = min(rng.choice((0, n_examples // 2)), len(own) // 2)
        some = rng.sample(pool, min(n_examples - n_own, len(pool) // 2))
        shown = [q.text for q in (*rng.sample(own, n_own), *some)]
        taken.update(shown)
        card = examples.cards[source, name]
        cards.append(
            AdapterCard(
                name,
                domain=card.domain,
                description=card.description,
                keywords=card.keywords if rng.random() < 0.7 else (),
                examples=tuple(shown),
            )
        )
    fitting = []
    for source, name in members:
        pool = [q for q in _source(queries, source)[name] if q.text not in taken]
        own = [q for q in queries.own_words.get(name, []) if q.text not in taken]
        some = rng.sample(pool, min(len(pool), 2 * len(own) or asked))
        fitting += [(q.text, name) for q in (*own, *some)]
    n_fitting = min(len(fitting), asked * 11 // 20)
    chosen_queries: list[tuple[str, str | None]] = list(rng.sample(fitting, n_fitting))
    strangers = _strangers(rng, members, queries, asked - n_fitting)
    return Registry(kind, tuple(cards), (*chosen_queries, *((q.text, None) for q in strangers)))


def _members(
    rng: random.Random, kind: str, corpus: Corpus, size: int | None
) -> list[tuple[str, str]]:
    pools = {
        "intent": [("intent", name) for name in sorted(corpus.intents)],
        "domain": [("domain", name) for name in sorted(corpus.domains)],
        "text": [("text", name) for name in sorted(corpus.texts)],
    }
    if kind == "mixed":
        some = rng.sample(pools["text"], rng.randint(1, 6))
        other = rng.choice(("intent", "domain"))
        return some + rng.sample(pools[other], rng.randint(1, min(8, len(pools[other]))))
    most = len(pools[kind])
    sizes = [n for n in INTENT_COUNTS if n <= most] if kind == "intent" else range(1, most + 1)
    return rng.sample(pools[kind], size or rng.choice(sizes))


def _source(corpus: Corpus, source: str) -> dict[str, list[Query]]:
    return {"intent": corpus.intents, "domain": corpus.domains, "text": corpus.texts}[source]


def _strangers(
    rng: random.Random, members: Sequence[tuple[str, str]], corpus: Corpus, count: int
) -> list[Query]:
    names = {name for _, name in members}
    served = set[str]().union(*(FITS_TOO.get(name, set()) for name in names))
    domains_of = {q.intent: q.domain for qs in corpus.intents.values() for q in qs}
    near = [
        query
        for intent, of_intent in sorted(corpus.intents.items())
        if intent not in names | served and domains_of[intent] not in names
        for query in of_intent
    ]
    absent = set(corpus.texts) - names
    absent -= {name for name in absent if FITS_TOO.get(name, set()) & names}
    if "kitchen_and_dining" in names:
        absent.discard("cooking")
    far = [query for name in sorted(absent) for query in corpus.texts[name]]
    own = [query for name in sorted(absent) for query in corpus.own_words.get(name, [])]
    pools = [pool for pool in (near, near, corpus.out_of_scope, far or own, own) if pool]
    return [rng.choice(rng.choice(pools)) for _ in range(count)]
