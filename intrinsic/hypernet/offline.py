"""A saved hypernetwork beside its base model, without any engine: to look at, to export from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.base_norms import base_norms
from intrinsic.hypernet.check import ExampleCheck, check_on_model
from intrinsic.hypernet.checkpoint import Saved, load, marks_of
from intrinsic.hypernet.encoded import TaskEncoder
from intrinsic.hypernet.encoders import TextEncoder, encoder_named
from intrinsic.hypernet.gate import Verdict
from intrinsic.hypernet.generated import Generated, export
from intrinsic.hypernet.generator import WeightGenerator
from intrinsic.hypernet.job import LEARNED, VALIDATION, kept_back
from intrinsic.hypernet.least_share import share_of
from intrinsic.hypernet.marks import BaseMark, EncoderMark
from intrinsic.hypernet.scores import TaskScore, generated_for, score_tasks
from intrinsic.hypernet.tasks import Task, digest_of
from intrinsic.training.lora.base import find_base, load_base
from intrinsic.training.scoring import pad_batch


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
    """An adapter's folder, and what gate and example said of its query, where there were any."""

    folder: Path
    query: str
    verdict: Verdict | None
    generated: Generated
    check: ExampleCheck | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "path": str(self.folder),
            "query": self.query,
            "gate": None if self.verdict is None else asdict(self.verdict),
            "example": None if self.check is None else asdict(self.check),
            "relative_norm": self.generated.relative_norm,
            "rank": self.generated.rank,
            "alpha": self.generated.alpha,
            "layers": len(self.generated.factors),
            "digest": self.generated.key,
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """A task's scores bare and under the weights of its first description.

    `part` is what it was for: `seen` (rows that were kept back), `learned` (where none were, so
    that these were learned), `validation` or `unseen`.
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
    trained_on, trained_with = marks_of(folder)
    encoder = encoder_named(trained_with.name)
    found = find_base(base or trained_on.name)
    model, tokenizer = load_base(found, torch.float32)
    marks = BaseMark.of(model, found.name), EncoderMark.of(encoder)
    saved = load(folder, base=marks[0], encoder=marks[1])
    saved.network.eval().requires_grad_(False)
    return OpenHypernet(folder, saved, encoder, model, tokenizer)


def export_for(
    opened: OpenHypernet,
    query: str,
    out: Path,
    *,
    gated: bool = True,
    example: tuple[str, str] | None = None,
    replace: bool = False,
) -> Exported:
    """Generate the adapter of a query and write its folder, which PEFT loads.

    Raises `HypernetError` where the gate refuses it, unless it is not asked (`gated`), and where
    the loss on the `example` (prompt and answer) is not lower with the weights; `ConfigError` for a
    query or an example without text. Nothing is written then.
    """
    if not query.strip():
        raise ConfigError("the query is empty; say in a sentence what the adapter is for")
    if example is not None and not all(side.strip() for side in example):
        raise ConfigError("the example needs a prompt and an answer that are not empty (--example)")
    embedding = torch.from_numpy(opened.encoder.encode([query]))[0]
    network = opened.saved.network
    generator = WeightGenerator(network, base_norms(opened.model, network.targets))
    generated = generator.generate(embedding)
    gate = opened.saved.gate
    verdict = None if gate is None else gate.admits(embedding, generated.relative_norm)
    if gated and verdict is not None and not verdict.admitted:
        raise HypernetError(
            f"the hypernetwork does not answer {query!r:.80}: {verdict.reason}; put it in words of "
            "the tasks that it was trained on, or generate it without the gate "
            "(intrinsic hypernet generate --no-gate)"
        )
    check = None if example is None else _checked(opened, query, embedding, example)
    if check is not None and not check.passed:
        raise HypernetError(f"the weights for {query!r:.80} do not help: {check.reason}")
    card = AdapterCard(out.name, description=query)
    name = opened.saved.base.name
    export(generated, out, base_model=name, card=card, replace=replace)
    return Exported(out, query, verdict, generated, check)


def judge(opened: OpenHypernet, tasks: Sequence[Task], *, rows: int | None = None) -> list[Judged]:
    """Score tasks with and without the network, on rows that it did not learn, where there are any.

    What was learned is known from the network's record; a task that it does not name is unseen.
    Raises `HypernetError` for a record that says something else under its names.
    """
    record = opened.saved.record
    try:
        named, kept = record.get("tasks", {}), int(record.get("held_rows", 0))
        length = record.get("plan", {}).get("max_length")
        length = None if length is None else int(length)
        validation, learned = (set(named.get(part, ())) for part in (VALIDATION, LEARNED))
    except (AttributeError, TypeError, ValueError) as error:
        raise HypernetError(
            f"{opened.folder}: its record does not say what was learned ({error}); "
            "train it with 'intrinsic hypernet train', or save it without a record"
        ) from None
    known = [(task, kept_back(task, kept)[1]) for task in tasks if task.name in learned]
    parts = {
        "seen": [back for _, back in known if back is not None],
        "learned": [task for task, back in known if back is None],
        "validation": [task for task in tasks if task.name in validation],
        "unseen": [task for task in tasks if task.name not in learned | validation],
    }
    encoder = TaskEncoder(opened.model, opened.tokenizer, opened.encoder, length)
    found = []
    for part, some in parts.items():
        encoded = encoder.tasks(some)
        bare = score_tasks(opened.model, None, encoded, rows=rows)
        generated = score_tasks(opened.model, opened.saved.network, encoded, rows=rows)
        for task, one, other in zip(encoded, bare, generated, strict=True):
            found.append(Judged(part, one, other, _refused(opened, task.embeddings)))
    return found


def knows_data(opened: OpenHypernet, tasks: Sequence[Task]) -> bool:
    """Whether these tasks are, row by row, those that it was trained on, as far as it names them.

    True where its record does not say.
    """
    record, by_name = opened.saved.record, {task.name: task for task in tasks}
    named, digest = record.get("tasks"), record.get("data")
    if not isinstance(named, dict) or digest is None:
        return True
    learned, validation = ([*named.get(part, ())] for part in (LEARNED, VALIDATION))
    if not by_name.keys() >= {*learned, *validation}:
        return False
    kept = int(record.get("held_rows", 0))
    found = [kept_back(by_name[name], kept)[0] for name in learned]
    return digest_of([*found, *(by_name[name] for name in validation)]) == str(digest)


def _checked(
    opened: OpenHypernet, query: str, embedding: torch.Tensor, example: tuple[str, str]
) -> ExampleCheck:
    encoder = TaskEncoder(opened.model, opened.tokenizer, opened.encoder)
    (task,) = encoder.tasks([Task("example", (query,), (example,))])
    ids, labels = pad_batch(task.rows)
    applied = partial(generated_for, opened.model, opened.saved.network, embedding[None])
    share = share_of(opened.saved.gate)
    return check_on_model(opened.model, ids, labels, applied, share=share)


def _refused(opened: OpenHypernet, embeddings: torch.Tensor) -> float:
    gate = opened.saved.gate
    if gate is None:
        return 0.0
    return sum(not gate.admits(one).admitted for one in embeddings) / len(embeddings)
