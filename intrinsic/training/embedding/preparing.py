"""All that an encoder's training works on, made ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from intrinsic.training.embedding.encoder import find_encoder, load_encoder, used_targets
from intrinsic.training.embedding.exam import cut_labelled, cut_pairs, demand_company
from intrinsic.training.embedding.pair_trainer import PairTrainer
from intrinsic.training.embedding.pairs import by_label, passes
from intrinsic.training.embedding.plan import EmbeddingPlan
from intrinsic.training.embedding.rows import LabelledRow, PairRow, TextRow, read_texts
from intrinsic.training.embedding.scores import Contrast, EmbeddingScores
from intrinsic.training.lora.data_file import DataFile
from intrinsic.training.lora.fresh import add_adapter
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.preparing import Prepared, longest, on_this_machine, with_every
from intrinsic.training.lora.trainer import Course, Telling


def prepare(job: TrainingJob, plan: EmbeddingPlan) -> Prepared[EmbeddingScores]:
    """Read the rows, load the encoder, and pair what is learned and held out."""
    data = read_texts(job.data)
    labelled = isinstance(data.rows[0], LabelledRow)
    plan = on_this_machine(plan)
    train, exam = _cut(data, plan)
    learned = passes(train, plan.batch_pairs, plan.seed, plan.epochs)
    demand_company(data.path, learned, exam)
    base = find_encoder(job.base)
    model, inner = load_encoder(base)
    plan = replace(
        plan,
        alpha=plan.scale,
        max_length=longest(plan, model.max_seq_length),
        targets=used_targets(model, inner, plan.targets),
    )
    plan = with_every(plan, len(learned))
    model.max_seq_length = plan.max_length
    adapted = add_adapter(inner, plan, plan.targets, task="FEATURE_EXTRACTION")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("lora_" in name)
    contrast = Contrast.of(model, plan, labelled=labelled)

    def make(course: Course, telling: Telling) -> PairTrainer:
        return PairTrainer(course, telling, contrast)

    texts = _texts(data.rows)
    shortened = _too_long(model, contrast, texts, plan.max_length or 0)
    return Prepared(
        data=data,
        questions=tuple(row.text if isinstance(row, LabelledRow) else row.query for row in train),
        train_rows=len(train),
        base=base,
        course=Course(adapted, learned[: plan.max_steps], exam.batches, plan),
        make=make,
        score=lambda: contrast.score(exam),
        shortened=shortened,
        note=_note(train, shortened, len(texts), plan.max_length),
        started={"kind": "embedding", "loss": "multiple negatives ranking"},
    )


def _cut(data: DataFile[PairRow] | DataFile[LabelledRow], plan: EmbeddingPlan) -> Any:  # noqa: ANN401
    cut: Any = cut_labelled if isinstance(data.rows[0], LabelledRow) else cut_pairs
    return cut(data, plan.validation_share, plan.seed, plan.batch_pairs)


def _texts(rows: Sequence[TextRow]) -> list[str]:
    found: list[str] = []
    for row in rows:
        if isinstance(row, LabelledRow):
            found.append(row.text)
        else:
            found += [row.query, row.positive, *([row.negative] if row.negative else [])]
    return list(dict.fromkeys(found))


def _too_long(model: Any, contrast: Contrast, texts: Sequence[str], limit: int) -> int:  # noqa: ANN401
    """How many texts lose their end, with the longer of the two prefixes before them."""
    prefix = max(contrast.query_prefix, contrast.passage_prefix, key=len)
    ids = model.tokenizer([prefix + text for text in texts], verbose=False)["input_ids"]
    return sum(len(one) > limit for one in ids)


def _note(train: Sequence[TextRow], shortened: int, texts: int, limit: int | None) -> str:
    said = []
    if shortened:
        said.append(
            f"{shortened} of {texts} texts have more than {limit} tokens and lose their end"
        )
    labelled = [row for row in train if isinstance(row, LabelledRow)]
    alone = sum(len(of) == 1 for of in by_label(labelled).values())
    if alone:
        said.append(f"{alone} labels have but one text and are not learned")
    return "; ".join(said)
