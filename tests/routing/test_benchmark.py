"""The benchmark of routing cuts the data fairly, runs, and prints what it promises."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _routing_rival, routing
from benchmarks.__main__ import main
from benchmarks._routing_data import EVERY, Row, halves, read
from benchmarks._routing_metrics import Answers, a95_interval
from benchmarks._routing_synthetic import scaled
from benchmarks._routing_vectors import known_of
from tests.bus.backends import both_backends
from tests.routing.fakes import BagEmbedder

SUBJECTS = {
    "home": {"lamp": "switch the lamp on or off", "heat": "warmer or colder rooms"},
    "travel": {"flight": "book a flight or a plane", "hotel": "find a hotel room"},
}
OTHERS = ("what is love", "who won the cup", "sing me something", "the tallest mountain")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CLINC150 of two domains and four intents."""
    rng = random.Random(0)
    cards = [
        {"kind": "intent", "name": name, "description": text}
        for of_domain in SUBJECTS.values()
        for name, text in of_domain.items()
    ] + [
        {"kind": "domain", "name": name, "description": " ".join(of_domain.values())}
        for name, of_domain in SUBJECTS.items()
    ]
    _write(tmp_path / "clinc150_cards.jsonl", cards)
    for split, count in (("train", 12), ("valid", 6)):
        rows = [
            {"text": f"{split} {n} {_some(rng, text)} {name}", "intent": name, "domain": domain}
            for domain, of_domain in SUBJECTS.items()
            for name, text in of_domain.items()
            for n in range(count)
        ]
        rows += [
            {"text": f"{split} {text}", "intent": "oos", "domain": "out_of_scope"}
            for text in OTHERS
        ]
        _write(tmp_path / f"clinc150_{split}.jsonl", rows)
    return tmp_path


def _some(rng: random.Random, text: str) -> str:
    return " ".join(rng.sample(text.split(), 2))


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_the_halves_share_no_row_and_are_alike_in_intents() -> None:
    rows = [Row(f"{name} {n}", name, "d") for name in "abc" for n in range(20)]
    rows += [Row(f"other {n}") for n in range(10)]
    choose, report = halves(rows)
    assert sorted((*choose, *report), key=str) == sorted(rows, key=str)
    for half in (choose, report):
        assert Counter(row.intent for row in half) == {"a": 10, "b": 10, "c": 10, "": 5}
    assert halves(rows[::-1]) == (choose, report)
    assert halves(rows, seed=1) != (choose, report)


def test_examples_come_from_train_and_depend_on_the_seed(folder: Path) -> None:
    data = read(folder)
    of_train = {row.text: row.intent for row in data.train}
    drawn = data.registry("intent", 5, 0)
    assert [card.name for card in drawn] == ["flight", "heat", "hotel", "lamp"]
    for card in drawn:
        assert [of_train[text] for text in set(card.examples)] == [card.name] * 5
    assert data.registry("intent", 5, 0) == drawn != data.registry("intent", 5, 1)
    assert [len(card.examples) for card in data.registry("domain", EVERY, 0)] == [24, 24]
    assert [card.examples for card in data.registry("domain", 0, 0)] == [(), ()]


def test_figures_are_those_counted_by_hand() -> None:
    answers = Answers(
        in_scope=np.array([True] * 4 + [False] * 2),
        right=np.array([True, True, False, True, False, False]),
        accepted=np.array([True, False, True, True, True, False]),
        confidence=np.array([0.9, 0.4, 0.8, 0.7, 0.6, 0.1]),
    )
    assert answers.top1 == 0.75
    assert answers.a95 == 0.5  # of two, both must be refused: the bar is 0.6
    assert answers.e2e == pytest.approx(3 / 6)
    assert answers.refused == 0.5
    low, high = a95_interval([answers], seed=0, draws=200)
    assert 0.0 <= low < 0.5 < high <= 1.0
    assert a95_interval([answers], seed=0, draws=200) == (low, high)


@both_backends
async def test_vectors_are_made_once(folder: Path, tmp_path: Path) -> None:
    data, cache = read(folder), tmp_path / "vectors.npz"
    known = await known_of(data.texts(), BagEmbedder(), cache, print)
    text = data.texts()[3]
    assert np.array_equal(await known.embed([text]), await BagEmbedder().embed([text]))
    assert known.missed == 0
    await known.embed(["never seen before"])
    assert known.missed == 1
    again = BagEmbedder()
    await known_of(data.texts(), again, cache, print)
    assert again.asked == [data.texts()[0]]


@both_backends
async def test_variations_are_new_near_their_originals_and_of_unit_length(folder: Path) -> None:
    data = read(folder)
    known = await known_of(data.texts(), BagEmbedder(), None, print)
    cards = scaled(data, known, 40, 0, examples=3)
    assert tuple(cards[:4]) == data.registry("intent", 3, 0)
    assert len({card.name for card in cards}) == 40
    texts = [text for card in cards for text in card.examples]
    assert len(set(texts)) == len(texts) == 120
    one, other = (np.stack(known(card.examples)) for card in (cards[1], cards[5]))
    assert np.linalg.norm(other, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert (one * other).sum(1).min() > 0.5


def test_it_prints_its_figures(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "SentenceEncoder", _Bags)
    arguments = ["--data", str(folder), "--seeds", "2", "--without-rival"]
    assert main(["routing", "--json", *arguments, "--parts", "clinc150", "near", "domains"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clinc150"]["ours"].keys() == {"k0", "k5", "k10", "all"}
    for of_k in result["clinc150"]["ours"].values():
        assert {"top1", "a95", "e2e", "a95_interval", "refused", "ece"} <= of_k.keys()
    assert result["clinc150"]["ours"]["all"]["top1"] > 90.0
    assert result["domains"].keys() == {"k5", "all"}
    assert 50.0 < result["near_oos_auroc_k10"] <= 100.0
    assert 0.0 <= result["ece"] <= 1.0
    assert (result["half"], result["rows"]) == ("report", {"in_scope": 12, "all": 14})
    assert result["texts_encoded_late"] <= 1


class _Bags(BagEmbedder):
    runtime = "bags"

    def __init__(self, options: object) -> None:
        super().__init__()

    async def warm_up(self) -> None:
        await self.embed(["warm up"])


async def test_semantic_router_gets_the_same_vectors(folder: Path) -> None:
    pytest.importorskip("semantic_router")
    data = read(folder)
    known = await known_of(data.texts(), BagEmbedder(), None, print)
    choose, report = halves(data.valid)
    router = _routing_rival.build(data.registry("intent", 5, 0), known)
    plain = await _routing_rival.answers(router, report, "intent")
    assert plain.accepted.all()
    assert plain.top1 > 0.9
    fitted = await _routing_rival.fitted(router, plain, choose, "intent")
    assert np.array_equal(fitted.right, plain.right)
    assert np.array_equal(np.argsort(fitted.confidence), np.argsort(plain.confidence))
