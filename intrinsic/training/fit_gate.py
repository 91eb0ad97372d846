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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import numpy as np

from intrinsic.routing.card_vectors import texts_of
from intrinsic.routing.dense import Floats
from intrinsic.routing.encoder import EncoderOptions, SentenceEncoder
from intrinsic.routing.gate import Gate, expanded, load_gate
from intrinsic.routing.gate_features import MEANING_FEATURES, WORD_FEATURES
from intrinsic.routing.model_loading import BUNDLED_MODEL, BUNDLED_SHA256
from intrinsic.routing.scaling_odds import LIMIT, logistic
from intrinsic.training.gate_corpus import Corpus, all_texts, read_corpus
from intrinsic.training.gate_figures import Judged, Vectors, figures, judge, report
from intrinsic.training.simulated import bundled_registry, simulate, whole_registry

MISFITS = 0.6
"""The share of queries that fit no adapter in fitting: telling them apart is the harder part."""

WHOLE_EXAMPLE_COUNTS = (0, 5, 10, 20, 1000)

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the gates, write them with their provenance, and print the report; or evaluate."""
    parser = argparse.ArgumentParser(description="Fit the routers' gate on simulated registries.")
    parser.add_argument("--data", type=Path, required=True)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="fit, and write the gate here")
    target.add_argument("--evaluate", action="store_true", help="only score the packaged gate")
    target.add_argument("--adapters", type=Path, help="only score it on a folder of adapters")
    parser.add_argument("--cache", type=Path, help="a file (.npz) that keeps the vectors")
    parser.add_argument("--registries", type=int, default=500)
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
        seen = judge(fitted, vectors, dense=dense)
        gates[name] = tempered(fit(seen, features), seen)
        judged[name] = judge(scored, vectors, dense=dense)
    found = report(judged, gates)
    provenance = {
        "script": "python -m intrinsic.training.fit_gate",
        "encoder": {"name": BUNDLED_MODEL, "sha256": BUNDLED_SHA256},
        "seed": options.seed,
        "registries": options.registries,
        "none_fits": "0.5 / candidates ** 0.25",
        "queries": sum(len(registry.asked) for registry in fitted),
        "data": SOURCES,
        "valid": {rule: _short(of_rule["all"]) for rule, of_rule in found.items()},
    }
    content = {"provenance": provenance, "gates": {n: g.as_json() for n, g in gates.items()}}
    options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for rule, of_rule in found.items():
        for kind, values in of_rule.items():
            print(f"{rule:8} {kind:7}", json.dumps(_short(values)))


def fit(judged: Judged, names: Sequence[str], *, ridge: float = 10.0) -> Gate:
    """Fit a logistic model by Newton's method, with a small ridge on standardised terms."""
    low, high = judged.features.min(0), judged.features.max(0)
    terms = expanded(judged.features)
    mean, spread = terms.mean(0), terms.std(0) + 1e-9
    x = np.column_stack([(terms - mean) / spread, np.ones(len(terms))])
    penalty = np.append(np.full(terms.shape[1], ridge), 0.0)
    weights = _weights(judged, np.full(len(terms), MISFITS))
    w = logistic(x, judged.right, weights, penalty)
    coefficients = w[:-1] / spread
    intercept = float(w[-1] - coefficients @ mean)
    return Gate(tuple(names), coefficients, intercept, low, high)


def none_fits(candidates: Floats) -> Floats:
    """The share of requests that fit none of so many adapters, as the gate expects it.

    0.5 · n^(-1/4): half of them for one adapter, a third for five, a seventh for 150.
    """
    share: Floats = 0.5 * candidates**-0.25
    return share


def tempered(gate: Gate, judged: Judged) -> Gate:
    """Make a gate's log-odds those of requests of which a share of `none_fits` fit nothing.

    Platt's scaling (1999) on the same queries, weighted to that share, with a term for the number
    of candidates. Fitting with the share itself would see too few misfits to tell them from what
    fits.
    """
    at = gate.features.index("log_candidates")
    size = judged.features[:, at]
    odds = np.clip(gate.log_odds(judged.features), -LIMIT, LIMIT)
    x = np.column_stack([odds, size, np.ones(len(odds))])
    weights = _weights(judged, none_fits(np.exp(size)))
    slope, by_size, shift = logistic(x, judged.right, weights, np.full(3, 1e-6))
    coefficients = gate.coefficients * slope
    coefficients[at] += by_size
    return replace(gate, coefficients=coefficients, intercept=gate.intercept * slope + shift)


def _weights(judged: Judged, misfits: Floats) -> Floats:
    """What each query counts where a share of `misfits` of its kind shall fit no adapter."""
    seen = float((~judged.in_scope).mean())
    return np.where(judged.in_scope, (1.0 - misfits) / (1.0 - seen), misfits / max(seen, 1e-9))


def evaluate(train: Corpus, valid: Corpus, vectors: Vectors, *, seed: int) -> None:
    """Print what the packaged gate is worth on whole CLINC150, its valid split."""
    gates = {name: load_gate(name) for name in GATES}
    for kind in ("intent", "domain"):
        for n_examples in WHOLE_EXAMPLE_COUNTS:
            one = [whole_registry(train, valid, kind, n_examples=n_examples, seed=seed)]
            judged = {name: judge(one, vectors, dense=name == "meaning") for name in GATES}
            for rule, found in report(judged, gates).items():
                print(f"{kind:6} k={n_examples:<3} {rule:8}", json.dumps(_short(found["all"])))


def evaluate_bundled(folder: Path, valid: Corpus, cache: Path | None) -> None:
    """Print what the packaged gate is worth for the adapters in `folder`, all and by domain."""
    registry = bundled_registry(folder, valid)
    shown = [text for card in registry.cards for text in texts_of(card)]
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


def embed(texts: Sequence[str], cache: Path | None) -> Vectors:
    """Return the bundled encoder's vector of each text; `cache` is a file to keep them in."""
    known: Vectors = {}
    if cache is not None and cache.exists():
        with np.load(cache) as kept:
            known = dict(zip(json.loads(str(kept["texts"])), kept["vectors"], strict=True))
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    encoder = SentenceEncoder(options=EncoderOptions(runtime="torch", cached_texts=0))
    for at in range(0, len(missing), 512):
        batch = missing[at : at + 512]
        known.update(zip(batch, anyio.run(encoder.embed, batch), strict=True))
        print(f"embedded {at + len(batch)} of {len(missing)} texts", flush=True)
    if missing and cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        kept_texts, vectors = list(known), np.stack(list(known.values()))
        np.savez(cache, texts=np.array(json.dumps(kept_texts)), vectors=vectors)
    return known


def _short(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items()}


if __name__ == "__main__":
    main()
