"""A saved hypernetwork beside its base model, without any engine: to look at, to export from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.base_norms import base_norms
from intrinsic.hypernet.checkpoint import Saved, load
from intrinsic.hypernet.encoded import TaskEncoder
from intrinsic.hypernet.encoders import TextEncoder, encoder_named
from intrinsic.hypernet.gate import Verdict
from intrinsic.hypernet.generated import Generated, export
from intrinsic.hypernet.generator import WeightGenerator
from intrinsic.hypernet.job import LEARNED, VALIDATION, kept_back
from intrinsic.hypernet.marks import BaseMark, EncoderMark
from intrinsic.hypernet.scores import TaskScore, score_tasks
from intrinsic.hypernet.tasks import Task
from intrinsic.training.lora.base import find_base, load_base


@dataclass(frozen=True, slots=True)
class OpenHypernet:
    """A network with all that it belongs to, checked against one another."""

    folder: Path
    saved: Saved
    encoder: TextEncoder
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Exported:
    """An adapter's folder, the gate's verdict on its query, and how large the change is."""

    folder: Path
    query: str
    verdict: Verdict
    generated: Generated

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "path": str(self.folder),
            "query": self.query,
            "gate": asdict(self.verdict),
            "relative_norm": self.generated.relative_norm,
            "rank": self.generated.rank,
            "alpha": self.generated.alpha,
            "layers": len(self.generated.factors),
            "digest": self.generated.key,
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """A task's scores bare and under the weights of its first description.

    `part` is what it was for: `seen` (rows that were kept back), `validation` or `unseen`.
    `refused` is the share of its descriptions that the gate refuses.
    """

    part: str
    bare: TaskScore
    generated: TaskScore
    refused: float

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "task": self.bare.name,
            "part": self.part,
            "bare": self.bare.as_json(),
            "generated": self.generated.as_json(),
            "refused": self.refused,
        }


def open_hypernet(folder: Path, base: str | None = None) -> OpenHypernet:
    """Read a hypernetwork's folder, its encoder and its base (that of its record, or `base`).

    Raises `HypernetError` where one of them is another than it was trained with, `BackendError`
    where the base is not there.
    """
    named = load(folder)
    encoder = encoder_named(named.encoder.name)
    found = find_base(base or named.base.name)
    model, tokenizer = load_base(found, torch.float32)
    marks = BaseMark.of(model, found.name), EncoderMark.of(encoder)
    saved = load(folder, base=marks[0], encoder=marks[1])
    saved.network.eval().requires_grad_(False)
    return OpenHypernet(folder, saved, encoder, model, tokenizer)


def export_for(
    opened: OpenHypernet, query: str, out: Path, *, gated: bool = True, replace: bool = False
) -> Exported:
    """Generate the adapter of a query and write its folder, which PEFT loads.

    Raises `HypernetError` where the gate refuses it, unless it is not asked (`gated`), and
    `ConfigError` for a query without text; nothing is written then.
    """
    if not query.strip():
        raise ConfigError("the query is empty; say in a sentence what the adapter is for")
    embedding = torch.from_numpy(opened.encoder.encode([query]))[0]
    network = opened.saved.network
    generator = WeightGenerator(network, base_norms(opened.model, network.targets))
    generated = generator.generate(embedding)
    verdict = Verdict(True, float("nan"), "it has no gate")
    if opened.saved.gate is not None:
        verdict = opened.saved.gate.admits(embedding, generated.relative_norm)
    if gated and not verdict.admitted:
        raise HypernetError(
            f"the hypernetwork does not answer {query!r:.80}: {verdict.reason}; put it in words of "
            "the tasks that it was trained on, or leave the gate out (--no-gate)"
        )
    card = AdapterCard(out.name, description=query)
    name = opened.saved.base.name
    export(generated, out, base_model=name, card=card, replace=replace)
    return Exported(out, query, verdict, generated)


def judge(opened: OpenHypernet, tasks: Sequence[Task], *, rows: int | None = None) -> list[Judged]:
    """Score tasks with and without the network, on rows that it did not learn.

    What was learned is known from the network's record; a task that it does not name is unseen.
    """
    named = opened.saved.record.get("tasks", {})
    validation = set(named.get(VALIDATION, ()))
    learned = set(named.get(LEARNED, ()))
    kept = int(opened.saved.record.get("held_rows", 0))
    parts = {
        "seen": [kept_back(task, kept)[1] or task for task in tasks if task.name in learned],
        "validation": [task for task in tasks if task.name in validation],
        "unseen": [task for task in tasks if task.name not in learned | validation],
    }
    encoder = TaskEncoder(opened.model, opened.tokenizer, opened.encoder)
    found = []
    for part, some in parts.items():
        encoded = encoder.tasks(some)
        bare = score_tasks(opened.model, None, encoded, rows=rows)
        generated = score_tasks(opened.model, opened.saved.network, encoded, rows=rows)
        for task, one, other in zip(encoded, bare, generated, strict=True):
            found.append(Judged(part, one, other, _refused(opened, task.embeddings)))
    return found


def _refused(opened: OpenHypernet, embeddings: torch.Tensor) -> float:
    gate = opened.saved.gate
    if gate is None:
        return 0.0
    return sum(not gate.admits(one).admitted for one in embeddings) / len(embeddings)
