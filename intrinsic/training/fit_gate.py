"""Fits the gate that turns a router's evidence into a probability, on simulated registries.

Run `python -m intrinsic.training.fit_gate --data DIR --out intrinsic/routing/gate.json`. DIR
holds `routing/clinc150_{train,valid,cards}.jsonl` and the six text domains. A simulated registry
is a handful of intents or domains as adapters, with a few of their training queries as
examples; it is asked other queries of theirs, and queries that nothing in it fits. Everything is
fitted on the train splits; `report` scores on registries whose queries come from the valid splits.
"""

from __future__ import annotations

import argparse
import json
import random
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt

from intrinsic.card import AdapterCard
from intrinsic.routing.encoder import EncoderOptions, SentenceEncoder
from intrinsic.routing.evidence import MEANING_FEATURES, WORD_FEATURES, Evidence
from intrinsic.routing.gate import Gate, expanded, load_gate
from intrinsic.routing.index import CardIndex
from intrinsic.routing.meaning import DenseView
from intrinsic.routing.model_loading import BUNDLED_MODEL, BUNDLED_SHA256
from intrinsic.routing.text import stems

Floats = npt.NDArray[np.float64]
Vectors = dict[str, npt.NDArray[np.float32]]

EXAMPLE_COUNTS = (0, 5, 10, 20)
WHOLE_EXAMPLE_COUNTS = (0, 5, 10, 20, 1000)
INTENT_COUNTS = (1, 3, 6, 12, 25, 50, 100, 150)
GATES = {"meaning": (*WORD_FEATURES, *MEANING_FEATURES), "words": WORD_FEATURES}
SOURCES = {
    "CLINC150": "Larson et al. 2019, CC BY 3.0",
    "MedQuAD": "Ben Abacha and Demner-Fushman 2019, CC BY 4.0",
    "CUAD v1": "Hendrycks et al. 2021, CC BY 4.0",
    "MBPP": "Austin et al. 2021, CC BY 4.0",
    "GSM8K": "Cobbe et al. 2021, MIT",
    "public-domain-recipes": "Unlicense",
    "Shakespeare, Grimm (Hunt 1884), Aesop (Townsend 1867)": "public domain",
}
FILES = {"coding": "mbpp_{split}.jsonl"}

DOMAIN_CARDS = (
    AdapterCard(
        "medical",
        domain="medicine",
        description="Answers questions about diseases, symptoms, causes, treatments and health",
        keywords=("disease", "symptom", "treatment", "diagnosis", "pain", "doctor", "medicine"),
    ),
    AdapterCard(
        "legal",
        domain="law",
        description="Drafts and explains clauses of contracts and agreements",
        keywords=("contract", "clause", "agreement", "liability", "law", "party", "licence"),
    ),
    AdapterCard(
        "coding",
        domain="programming",
        description="Writes Python functions from a description",
        keywords=("python", "function", "code", "program", "list", "string", "algorithm"),
    ),
    AdapterCard(
        "creative",
        domain="fiction",
        description="Tells and continues stories, fairy tales, fables and plays",
        keywords=("story", "tale", "fable", "scene", "poem", "character", "once upon a time"),
    ),
    AdapterCard(
        "math",
        domain="mathematics",
        description="Solves arithmetic word problems step by step",
        keywords=("how many", "how much", "total", "number", "sum", "percent", "calculate"),
    ),
    AdapterCard(
        "cooking",
        domain="cooking",
        description="Gives recipes: ingredients and how to prepare a dish",
        keywords=("recipe", "ingredients", "cook", "bake", "dish", "oven", "food"),
    ),
)

OWN_WORDS = {
    "medical": """
        I have had a headache for three days, what should I do?
        why does my back ache every morning
        is a temperature of 39 dangerous for a toddler?
        what is high blood pressure caused by
        can stress make your stomach hurt
        my throat is sore and my ears hurt
        how do doctors test for anemia
        I feel tired all the time, is that a sign of something?
        what happens during chemotherapy
        are there ways to stop snoring
        do I need antibiotics for a cold
        my eyes itch in spring
        what does it mean when your chest feels tight
        is asthma passed on from parents to children?
        how long does it take for a broken wrist to heal
        can you die from the flu
        my baby won't stop coughing
        what can be done about acne
        should I see someone about this mole?
        why are my ankles swollen
    """,
    "legal": """
        can I get out of this contract if the other side is late?
        what is a warranty disclaimer
        write a termination clause for a consulting contract
        who is liable if the goods are damaged in transit?
        what happens when one party breaches the agreement
        am I allowed to sublicense the software?
        explain what an arbitration provision does
        is the seller allowed to assign his rights to someone else
        how much notice must be given before renewal?
        what counts as confidential information under an NDA
        does the buyer have the right to audit our books
        I need wording for exclusive distribution rights
        what does governing law mean
        are there caps on damages
        is my employer allowed to change the terms of my employment contract
        who keeps the trademark when the franchise ends
        what insurance does the supplier have to carry
        draft something that stops them from hiring our staff
        can they terminate without cause?
        what is a most favored nation clause
    """,
    "coding": """
        how can I remove duplicates from a list
        write a script that renames all files in a folder
        check whether a number is prime in python
        what is the regex for an email address
        count how often each word occurs in a text file
        make a class for a stack with push and pop
        give me code that computes fibonacci numbers
        how to convert a string to an integer
        loop over the keys of a dict
        function to find the largest element of an array
        open a json file and print one field
        write a recursive factorial
        how do I catch an exception
        swap two variables without a third one
        flatten nested lists
        program that prints the multiplication table
        sort tuples by their second item
        return the even numbers only
        write a unit test for this function
        how do decorators work in python
    """,
    "creative": """
        write me a short story about a dragon who is afraid of fire
        make up a bedtime story for my daughter
        continue the story: the king sent his three sons into the forest
        a poem about the sea
        I want a fable in which a crow learns humility
        write a dialogue between a queen and her fool
        there once lived an old woman in a hut of moss
        what happens next after the giant wakes up?
        invent a legend about a lonely tower
        write the opening of a tragedy
        tell a tale of a mouse and a lion
        finish this scene: enter Romeo with a torch
        the youngest brother set out to seek his fortune
        write something in old fashioned english about love and death
        a story where animals talk
        describe a haunted castle at night
        write a monologue for a dying prince
        and the hare said to the tortoise
        give me a fairy tale with a wicked stepmother
        a short play about two thieves
    """,
    "math": """
        what is half of 250 plus 30
        there are 24 students and a third of them are girls, how many boys are there?
        I run 5 km a day, how far do I run in two weeks
        a shirt costs 40 dollars and is 25% off, what do I pay
        if 4 pens cost $6 what do 10 pens cost?
        how old is Ben if he is three years younger than Tim, who is 12
        a box holds 6 eggs, how many boxes for 50 eggs
        she had 100 stickers and gave away 37, how many are left
        what is the average of 4, 8 and 15
        he earns 18 an hour and works 35 hours a week, how much does he make in a month
        a tank fills at 3 liters a minute, when are 90 liters reached
        divide 144 by 12 and add 7
        the perimeter of a rectangle that is 4 by 9
        twice a number plus five is 21, what is the number?
        we are 5 people and the bill is 85 dollars, what does each of us owe
        how many minutes are there in 3 and a half hours
        a car uses 8 liters per 100 km, how much for 250 km
        Lisa is twice as tall as her brother who is 80 cm
        what is 3/4 of 60
        after spending a quarter of his money he has 45 dollars left, what did he start with
    """,
    "cooking": """
        how do you cook rice without burning it
        what can I make with eggplant and tomatoes
        a simple recipe for banana bread please
        how long do potatoes need in the oven
        which spices go into a chili
        I want to bake cookies for the kids
        how to fry fish so that it stays crisp
        what is in a caesar dressing
        vegetarian lasagna
        how do I thicken a sauce
        steps for making pizza dough
        what should I cook with leftover chicken
        do I need yeast for this dough?
        how to boil an egg
        a marinade for pork
        tell me how to prepare mushroom risotto
        ingredients for a cheesecake
        how hot should the pan be for steak
        soup from lentils and carrots
        what do I serve with roast beef
    """,
}
"""How people ask in their own words: the text domains' prompts are templates."""

FITS_TOO = {
    "cooking": {
        "recipe",
        "ingredients_list",
        "ingredient_substitution",
        "cook_time",
        "food_last",
        "calories",
        "nutrition_info",
        "meal_suggestion",
    },
    "math": {"calculator", "measurement_conversion"},
    "medical": {"vaccines"},
}
"""Intents of CLINC150 that one of the text domains would serve too: never 'none fits' there."""


@dataclass(frozen=True, slots=True)
class Query:
    """A text, and whose it is: an intent or a text domain; empty for out of scope."""

    text: str
    intent: str = ""
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """Simulated adapters and what they are asked, each with the right name or None."""

    kind: str
    cards: tuple[AdapterCard, ...]
    asked: tuple[tuple[str, str | None], ...]


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


def simulate(
    examples: Corpus, queries: Corpus, *, registries: int, seed: int, asked: int = 100
) -> Iterator[Registry]:
    """Make registries whose examples and queries never share a text."""
    rng = random.Random(seed)
    for at in range(registries):
        kind = ("intent", "domain", "text", "intent", "text", "mixed")[at % 6]
        n_examples = rng.choice(EXAMPLE_COUNTS)
        yield _registry(rng, kind, examples, queries, n_examples=n_examples, asked=asked)


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


@dataclass(frozen=True, slots=True)
class Judged:
    """The best candidate of many queries: its features, whether it was right, whether any was."""

    features: Floats  # (queries, features)
    right: npt.NDArray[np.bool_]
    in_scope: npt.NDArray[np.bool_]
    kind: npt.NDArray[np.str_]


def judge(registries: Sequence[Registry], vectors: Vectors, *, dense: bool) -> Judged:
    """Route every query with the routers' own code, and keep what the gate would see."""
    features, right, in_scope, kind = [], [], [], []
    for registry in registries:
        view = CardIndex().view(registry.cards)
        matrix = DenseView(view, np.stack([vectors[text] for text in view.texts]))
        for text, answer in registry.asked:
            terms = stems(text)
            meaning = matrix.weigh(vectors[text]) if dense else None
            evidence = Evidence(view, terms, view.weigh_words(terms), meaning)
            features.append(evidence.features()[0])
            right.append(view.cards[evidence.order[0]].name == answer)
            in_scope.append(answer is not None)
            kind.append(registry.kind)
    return Judged(np.array(features), np.array(right), np.array(in_scope), np.array(kind))


def fit(judged: Judged, names: Sequence[str], *, ridge: float = 1.0) -> Gate:
    """Fit a logistic model by Newton's method, with a small ridge on standardised terms."""
    low, high = judged.features.min(0), judged.features.max(0)
    terms = expanded(judged.features)
    mean, spread = terms.mean(0), terms.std(0) + 1e-9
    x = np.column_stack([(terms - mean) / spread, np.ones(len(terms))])
    penalty = np.append(np.full(terms.shape[1], ridge), 0.0)
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-x @ w))
        gradient = x.T @ (p - judged.right) + penalty * w
        hessian = (x * (p * (1.0 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    coefficients = w[:-1] / spread
    intercept = float(w[-1] - coefficients @ mean)
    return Gate(tuple(names), coefficients, intercept, low, high)


def auroc(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """Return the chance that a true row scores above a false one; ties count half."""
    _, rank, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = (np.cumsum(counts) - (counts - 1) / 2.0)[rank]
    n_true = int(truth.sum())
    n_false = len(truth) - n_true
    if not n_true or not n_false:
        return float("nan")
    return float((mean_rank[truth].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def calibration_error(p: Floats, truth: npt.NDArray[np.bool_], *, bins: int = 15) -> float:
    """Return the expected calibration error over `bins` of equal width (Naeini et al. 2015)."""
    at = np.clip((p * bins).astype(int), 0, bins - 1)
    gaps = [
        (at == b).mean() * abs(p[at == b].mean() - truth[at == b].mean())
        for b in range(bins)
        if (at == b).any()
    ]
    return float(sum(gaps))


def figures(judged: Judged, p: Floats) -> dict[str, float]:
    """Return what a gate's probabilities `p` are worth, on queries that it was not fitted on."""
    return {
        "top1": float(judged.right[judged.in_scope].mean()),
        "auroc": auroc(p, judged.right),
        "ece": calibration_error(p, judged.right),
        "right_at_half": float(((p >= 0.5) == judged.right).mean()),
        "accepted_and_right": float((judged.right & (p >= 0.5))[judged.in_scope].mean()),
        "refused_of_none_fits": float((p < 0.5)[~judged.in_scope].mean()),
    }


def report(
    judged: dict[str, Judged], gates: dict[str, Gate]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return figures by gate and kind of registry; "cosine" is the rule `cosine > 0.5`."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, of_gate in judged.items():
        probabilities = {name: gates[name].probabilities(of_gate.features)}
        if name == "meaning":
            at = gates[name].features.index("cosine")
            probabilities["cosine"] = np.clip(of_gate.features[:, at], 0.0, 1.0)
        for rule, p in probabilities.items():
            found[rule] = {"all": figures(of_gate, p)}
            for kind in sorted(set(of_gate.kind.tolist())):
                chosen = of_gate.kind == kind
                part = Judged(*(column[chosen] for column in _columns(of_gate)))
                found[rule][kind] = figures(part, p[chosen])
    return found


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


def evaluate(train: Corpus, valid: Corpus, vectors: Vectors, *, seed: int) -> None:
    """Print what the packaged gate is worth on whole CLINC150, its valid split."""
    gates = {name: load_gate(name) for name in GATES}
    for kind in ("intent", "domain"):
        for n_examples in WHOLE_EXAMPLE_COUNTS:
            one = [whole_registry(train, valid, kind, n_examples=n_examples, seed=seed)]
            judged = {name: judge(one, vectors, dense=name == "meaning") for name in GATES}
            for rule, found in report(judged, gates).items():
                print(f"{kind:6} k={n_examples:<3} {rule:8}", json.dumps(_short(found["all"])))


def bundled_registry(folder: Path, valid: Corpus) -> Registry:
    """Make a registry of the adapters in `folder`, asked their domains' prompts and CLINC150."""
    fields = ("name", "version", "domain", "description", "keywords", "examples")
    cards = []
    for file in sorted(folder.glob("*/card.toml")):
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        cards.append(AdapterCard(**{key: values[key] for key in fields if key in values}))
    names = {card.name for card in cards}
    served = set[str]().union(*(FITS_TOO.get(name, set()) for name in names))
    strangers = [
        query for name, pool in valid.intents.items() if name not in served for query in pool
    ]
    asked: list[tuple[str, str | None]] = [(q.text, None) for q in strangers + valid.out_of_scope]
    asked += [(q.text, name) for name in sorted(names) for q in valid.texts.get(name, [])]
    return Registry("bundled", tuple(cards), tuple(asked))


def evaluate_bundled(folder: Path, valid: Corpus, cache: Path | None) -> None:
    """Print what the packaged gate is worth for the adapters in `folder`, all and by domain."""
    registry = bundled_registry(folder, valid)
    shown = [text for card in registry.cards for text in (card.sentence, *card.examples)]
    vectors = embed(shown + [text for text, _ in registry.asked], cache)
    for name in GATES:
        judged = judge([registry], vectors, dense=name == "meaning")
        p = load_gate(name).probabilities(judged.features)
        print(f"bundled all      {name:8}", json.dumps(_short(figures(judged, p))))
        answers = np.array([answer or "" for _, answer in registry.asked])
        for domain in sorted({card.name for card in registry.cards}):
            accepted = (judged.right & (p >= 0.5))[answers == domain].mean()
            top1 = judged.right[answers == domain].mean()
            values = {"top1": float(top1), "accepted_and_right": float(accepted)}
            print(f"bundled {domain:8} {name:8}", json.dumps(_short(values)))


def _columns(judged: Judged) -> tuple[npt.NDArray[Any], ...]:
    return judged.features, judged.right, judged.in_scope, judged.kind


def embed(texts: Sequence[str], cache: Path | None) -> Vectors:
    """Return the bundled encoder's vector of each text; `cache` is a file to keep them in."""
    known: Vectors = {}
    if cache is not None and cache.exists():
        with np.load(cache) as kept:
            known = dict(zip(json.loads(str(kept["texts"])), kept["vectors"], strict=True))
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    encoder = SentenceEncoder(options=EncoderOptions(cached_texts=0))
    for at in range(0, len(missing), 512):
        batch = missing[at : at + 512]
        known.update(zip(batch, anyio.run(encoder.embed, batch), strict=True))
        print(f"embedded {at + len(batch)} of {len(missing)} texts", flush=True)
    if missing and cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        kept_texts, vectors = list(known), np.stack(list(known.values()))
        np.savez(cache, texts=np.array(json.dumps(kept_texts)), vectors=vectors)
    return known


def all_texts(*corpora: Corpus) -> list[str]:
    """Return every text of the corpora that a simulated registry may hold or be asked."""
    texts = [card.sentence for corpus in corpora for card in corpus.cards.values()]
    for corpus in corpora:
        for source in (
            corpus.intents,
            corpus.texts,
            corpus.own_words,
            {"": corpus.out_of_scope},
        ):
            texts += [query.text for queries in source.values() for query in queries]
    return texts


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the gates, write them with their provenance, and print the report; or evaluate."""
    parser = argparse.ArgumentParser(description="Fit the routers' gate on simulated registries.")
    parser.add_argument("--data", type=Path, required=True)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="fit, and write the gate here")
    target.add_argument("--evaluate", action="store_true", help="only score the packaged gate")
    target.add_argument("--adapters", type=Path, help="only score it on a folder of adapters")
    parser.add_argument("--cache", type=Path, help="a file (.npz) that keeps the vectors")
    parser.add_argument("--registries", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    train = read_corpus(options.data, "train")
    valid = read_corpus(options.data, "valid")
    if options.adapters is not None:
        evaluate_bundled(options.adapters, valid, options.cache)
        return
    vectors = embed(all_texts(train, valid), options.cache)
    if options.evaluate:
        evaluate(train, valid, vectors, seed=options.seed)
        return
    fitted = list(simulate(train, train, registries=options.registries, seed=options.seed))
    scored = list(simulate(train, valid, registries=options.registries // 3, seed=options.seed + 1))
    gates, judged = {}, {}
    for name, features in GATES.items():
        dense = name == "meaning"
        gates[name] = fit(judge(fitted, vectors, dense=dense), features)
        judged[name] = judge(scored, vectors, dense=dense)
    found = report(judged, gates)
    provenance = {
        "script": "python -m intrinsic.training.fit_gate",
        "encoder": {"name": BUNDLED_MODEL, "sha256": BUNDLED_SHA256},
        "seed": options.seed,
        "registries": options.registries,
        "queries": sum(len(registry.asked) for registry in fitted),
        "data": SOURCES,
        "valid": {rule: _short(of_rule["all"]) for rule, of_rule in found.items()},
    }
    content = {"provenance": provenance, "gates": {n: g.as_json() for n, g in gates.items()}}
    options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for rule, of_rule in found.items():
        for kind, values in of_rule.items():
            print(f"{rule:8} {kind:7}", json.dumps(_short(values)))


def _short(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items()}


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


if __name__ == "__main__":
    main()
