"""The figures of a router: against slow references, scikit-learn, and cases counted by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError, EncoderError
from intrinsic.routing import EmbeddingRouter, HybridRouter, KeywordRouter, RouterOptions
from intrinsic.routing.evaluation import (
    Answer,
    accepted_and_right,
    auroc,
    calibration_error,
    macro_f1,
    measure,
    reliability,
)
from intrinsic.routing.labelled import Labelled, read_labelled
from intrinsic.routing.trial import ask_all, evaluate
from intrinsic.selection import Selection
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder, FaultyEmbedder
from tests.routing.scripted import ScriptedRouter

QUERIES = [
    *(Labelled(f"please: {text}", card.name) for card in CARDS for text in card.examples),
    *(Labelled(text, None) for text in ("book a table at eight", "turn off the lamp", "hm")),
]


def answer(right: str | None, *ranked: tuple[str, float], text: str = "x") -> Answer:
    return Answer(text, right, tuple(a for a, _ in ranked), tuple(p for _, p in ranked))


def test_auroc_and_macro_f1_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.random(200) < 0.4
        scores = (rng.random(200) + 0.3 * truth).round(1).astype(np.float64)
        assert auroc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
        right: list[str | None] = [None if n == 0 else f"a{n}" for n in rng.integers(0, 5, 60)]
        decided = [one if rng.random() < 0.6 else f"a{rng.integers(1, 7)}" for one in right]
        named = [[str(one) for one in column] for column in (right, decided)]
        wanted = f1_score(*named, average="macro", zero_division=0)
        assert macro_f1(right, decided) == pytest.approx(wanted)
    assert np.isnan(auroc(scores, np.ones(200, bool)))


def test_calibration_error_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(1)
    p = np.append(rng.random(500), [0.0, 1.0])
    truth = rng.random(502) < p**2
    total = 0.0
    for low in range(15):
        last = low == 14
        inside = [
            (one, right)
            for one, right in zip(p, truth, strict=True)
            if low / 15 <= one and (one < (low + 1) / 15 or last)
        ]
        sure, correct = (float(np.mean(column)) for column in zip(*inside, strict=True))
        total += len(inside) / len(p) * abs(sure - correct)
    assert calibration_error(p, truth) == pytest.approx(total)
    assert calibration_error(np.full(502, 0.7), truth) == pytest.approx(abs(0.7 - truth.mean()))
    assert sum(one.answers for one in reliability(p, truth)) == 502


def test_a95_refuses_95_percent_and_no_more_than_it_must() -> None:
    outside = np.arange(100) / 1000.0  # 0 to 0.099; 95 of them are below 0.095
    inside = np.array([0.0945, 0.094, 0.09, 0.5, 0.5])
    p = np.concatenate([inside, outside])
    in_scope = np.arange(105) < 5
    right = np.array([True, True, True, True, False] + [False] * 100)
    assert accepted_and_right(p, right, in_scope) == pytest.approx(2 / 5)
    # Below twenty queries out of scope all of them must be refused.
    few = np.array([0.3, 0.5, 0.31, 0.5])
    scope = np.array([False, False, True, True])
    assert accepted_and_right(few, scope, scope) == 0.0


def test_the_report_counts_what_was_counted_by_hand() -> None:
    answers = [
        answer("a", ("a", 0.9), ("b", 0.2)),
        answer("a", ("b", 0.8), ("a", 0.6), text="first"),
        answer("a", ("b", 0.7), ("c", 0.6), ("a", 0.1), text="second"),
        answer("b", ("b", 0.4), ("a", 0.1)),
        answer(None, ("c", 0.3)),
        answer(None, ("c", 0.6)),
        answer(None),
    ]
    report = measure(answers, threshold=0.5)
    assert (report.queries, report.in_scope, report.out_of_scope) == (7, 4, 3)
    assert (report.top1, report.top2, report.top3) == (0.5, 0.75, 1.0)
    assert report.e2e == pytest.approx(3 / 7)
    assert report.a95 == pytest.approx(1 / 4)  # above 0.6: one right, two wrong
    assert report.auroc == pytest.approx((3 * 3 + 2) / 12)
    by_pair = {(one.right, one.decided): (one.times, one.example) for one in report.confusions}
    assert by_pair == {("a", "b"): (2, "first"), ("b", None): (1, "x"), (None, "c"): (1, "x")}
    assert report.confusions[0].times == 2
    # a: tp 1, fn 2 · b: fp 2, fn 1 · c: fp 1 · none: tp 2, fp 1, fn 1
    assert report.macro_f1 == pytest.approx((2 / 4 + 0 + 0 + 4 / 6) / 4)


def test_a_label_with_a_threshold_of_its_own_is_decided_by_it() -> None:
    answers = [answer("b", ("a", 0.4), ("b", 0.9)), answer("a", ("a", 0.95))]
    assert measure(answers, thresholds={"a": 0.3}).e2e == 0.5
    assert measure(answers, thresholds={"a": 0.5}).e2e == 1.0  # b: 0.9 · 0.6
    assert measure(answers, thresholds={"a": 0.5, "b": 0.6}).e2e == 0.5


def test_what_there_is_nothing_to_measure_on_is_none() -> None:
    inside = measure([answer("a", ("a", 0.9))])
    assert (inside.auroc, inside.a95) == (None, None)
    assert (inside.top1, inside.e2e, inside.macro_f1) == (1.0, 1.0, 1.0)
    outside = measure([answer(None, ("a", 0.2))])
    assert (outside.top1, outside.auroc, outside.a95, outside.e2e) == (None, None, None, 1.0)
    assert measure([]).ece is None


@both_backends
async def test_a_router_is_tried_on_labelled_queries() -> None:
    told: list[int] = []
    report = await evaluate(
        HybridRouter(BagEmbedder()), QUERIES, CARDS, threshold=0.3, progress=told.append
    )
    assert (report.queries, report.out_of_scope, report.threshold) == (27, 3, 0.3)
    assert report.top1 == 1.0
    assert report.auroc is not None
    assert report.auroc > 0.95
    assert sum(told) == 27


@both_backends
async def test_answers_come_in_the_order_of_the_queries_and_are_the_routers_own() -> None:
    router = KeywordRouter()
    answers = await ask_all(router, QUERIES * 2, CARDS)
    assert [one.text for one in answers] == [one.text for one in QUERIES * 2]
    for one in answers[:5]:
        ranked = await router.rank(one.text, candidates=CARDS)
        assert one.ranked == tuple(selection.adapter for selection in ranked[:3])
        assert one.confidences == tuple(selection.confidence for selection in ranked[:3])


@both_backends
async def test_thresholds_are_the_routers_and_the_cards() -> None:
    router = KeywordRouter(options=RouterOptions(threshold=0.0))
    everything = await evaluate(router, QUERIES, CARDS)
    assert everything.threshold == 0.0
    assert not any(one.decided is None for one in everything.confusions)
    strict = [
        AdapterCard(c.name, c.version, c.domain, c.description, examples=c.examples, threshold=1)
        for c in CARDS
    ]
    nothing = await evaluate(router, QUERIES, strict)
    assert nothing.e2e == pytest.approx(3 / 27)


@both_backends
async def test_labels_may_name_versions_and_unknown_ones_are_told() -> None:
    two = [AdapterCard("a", "1", examples=("red",)), AdapterCard("a", "2", examples=("blue",))]
    found = await evaluate(KeywordRouter(), [Labelled("blue", "a@2")], two)
    assert found.top1 == 1.0
    with pytest.raises(ConfigError, match="1 labelled queries name adapters that are not here"):
        await evaluate(KeywordRouter(), [Labelled("blue", "a")], two)
    gone = [Labelled("the court", "tax"), Labelled("bake bread", "cooking")]
    with pytest.raises(ConfigError, match="'tax'; known: coding, cooking, creative"):
        await evaluate(KeywordRouter(), gone, CARDS)
    report = await evaluate(KeywordRouter(), gone, CARDS, unknown_as_none=True)
    assert (report.in_scope, report.out_of_scope) == (1, 1)
    with pytest.raises(ConfigError, match=r"threshold is 1\.5"):
        await evaluate(KeywordRouter(), gone[1:], CARDS, threshold=1.5)


@both_backends
async def test_what_a_router_raises_gets_out_as_it_is() -> None:
    router = EmbeddingRouter(FaultyEmbedder(ValueError("broken")))
    with pytest.raises(EncoderError, match="broken"):
        await evaluate(router, QUERIES, CARDS)


@both_backends
async def test_any_ranking_router_can_be_tried() -> None:
    class Constant(ScriptedRouter):
        async def ranked(self, candidates: Sequence[AdapterCard]) -> list[Selection]:
            return [Selection(card.name, 0.4) for card in candidates]

    report = await evaluate(Constant(), QUERIES, CARDS)
    assert report.top1 == pytest.approx(1 / 6)
    assert report.top3 == pytest.approx(1 / 2)
    assert report.auroc == 0.5
    assert report.e2e == pytest.approx(3 / 27)


def test_labelled_queries_are_read_whatever_the_key(tmp_path: Path) -> None:
    file = tmp_path / "queries.jsonl"
    rows = [
        {"text": "a", "adapter": "medical"},
        {"text": "b", "intent": "legal", "domain": "law"},
        {"text": "c", "label": None},
        {"text": "d", "adapter": ""},
        {"text": "line\u2028break", "adapter": "none", "label": "legal"},
    ]
    file.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\r\n")
    assert read_labelled(file) == [
        Labelled("a", "medical"),
        Labelled("b", "legal"),
        Labelled("c", None),
        Labelled("d", None),
        Labelled("line\u2028break", None),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", r"q\.jsonl:2 is no JSON"),
        ("[" * 100_000, r"q\.jsonl:2 is no JSON"),
        ('["a"]', r"q\.jsonl:2 holds"),
        (
            '{"text": "ab\\ud83d", "adapter": "a"}',
            r"q\.jsonl:2 has a text whose character 3 is half of a pair",
        ),
        (
            '{"text": "a", "label": "\\ud83d"}',
            r"q\.jsonl:2 has a label whose character 1 is half of a pair",
        ),
        ('{"adapter": "a"}', r"q\.jsonl:2 has the text None"),
        ('{"text": " ", "adapter": "a"}', r"q\.jsonl:2 has the text ' '"),
        ('{"text": "a"}', r"q\.jsonl:2 does not say which adapter is right"),
        ('{"text": "a", "label": 3}', r"q\.jsonl:2 has the label 3"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(f'{{"text": "a", "adapter": "a"}}\n{line}\n')
    with pytest.raises(ConfigError, match=words):
        read_labelled(file)


def test_a_file_without_queries_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_labelled(tmp_path / "missing.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n \n")
    with pytest.raises(ConfigError, match="has no queries"):
        read_labelled(tmp_path / "empty.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="JSON lines in UTF-8"):
        read_labelled(tmp_path / "bytes.jsonl")
