"""What the router's trial learns from: no row of valid, and none of the intents left out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import _embedding_router
from benchmarks._embedding_router import RouterTrial, _shown, _trained
from benchmarks._routing_data import Clinc, Row
from intrinsic.card import AdapterCard
from intrinsic.training.embedding.scores import EmbeddingScores
from intrinsic.training.lora.job import TrainingJob

TRAIN = (
    *(Row(f"{intent} {n}", intent, "all") for intent in ("a", "b", "c") for n in range(8)),
    Row("fits nothing"),
)
DATA = Clinc(
    TRAIN,
    (Row("A  3", "a", "all"), Row("new", "b", "all")),
    {("intent", name): AdapterCard(name, description=f"about {name}") for name in "abc"},
)


def test_only_other_queries_of_the_intents_are_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[TrainingJob] = []

    def keep(job: TrainingJob, plan: Any, progress: Any) -> Any:
        jobs.append(job)
        job.folder.mkdir()
        scores = EmbeddingScores(0.1, 0.9, 5, 1)
        return SimpleNamespace(
            train_rows=1, steps=plan.max_steps, best_step=3, base=scores, adapter=scores
        )

    monkeypatch.setattr(_embedding_router, "trained_embedding", keep)
    trial = RouterTrial(tmp_path / "data", steps=7, adapters=tmp_path / "kept")
    folder, noted = _trained(trial, DATA, {"c"}, "unseen", print)
    assert noted["steps"] == 7
    rows = [json.loads(line) for line in jobs[0].data.read_text().splitlines()]
    wanted = [f"{intent} {n}" for intent in "ab" for n in range(8)]
    wanted.remove("a 3")  # it stands in valid
    assert [row["text"] for row in rows] == wanted
    assert {row["label"] for row in rows} == {"a", "b"}
    again = _trained(trial, DATA, {"c"}, "unseen", print)
    assert again == (folder, noted)
    assert len(jobs) == 1


def test_both_encoders_read_what_the_routers_are_shown() -> None:
    texts = _shown(RouterTrial(Path(), seeds=2), DATA)
    assert {"A  3", "new", "about a"} <= set(texts)
    for seed in range(2):
        for card in DATA.registry("intent", 5, seed):
            assert set(card.examples) <= set(texts)
    assert len(texts) == len(set(texts))
