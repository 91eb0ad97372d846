"""What a gate is worth: routing judged query by query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from intrinsic.routing.card_vectors import CardVectors, texts_of
from intrinsic.routing.dense import DenseView
from intrinsic.routing.evaluation import auroc, calibration_error
from intrinsic.routing.evidence import Evidence
from intrinsic.routing.gate import Gate
from intrinsic.routing.index import CandidateView, CardIndex
from intrinsic.routing.refit import worth_fitting
from intrinsic.routing.tuning import tuned
from intrinsic.training.simulated import Registry

Floats = npt.NDArray[np.float64]

Vectors = dict[str, npt.NDArray[np.float32]]


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
        matrix = _dense(view, vectors) if dense else None
        for text, answer in registry.asked:
            meaning = matrix.weigh(vectors[text]) if matrix is not None else None
            evidence = Evidence.of(view, text, meaning)
            features.append(evidence.features(1)[0])
            right.append(view.cards[evidence.leading(1)[0]].name == answer)
            in_scope.append(answer is not None)
            kind.append(registry.kind)
    return Judged(np.array(features), np.array(right), np.array(in_scope), np.array(kind))


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


def _dense(view: CandidateView, vectors: Vectors) -> DenseView:
    cards = [
        CardVectors.of(card, np.stack([vectors[text] for text in texts_of(card)]))
        for card in view.cards
    ]
    dense = DenseView(view, cards)
    if worth_fitting(dense):
        dense.judge = tuned(view, dense)
    return dense


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


def _columns(judged: Judged) -> tuple[npt.NDArray[Any], ...]:
    return judged.features, judged.right, judged.in_scope, judged.kind
