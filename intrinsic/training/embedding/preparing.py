"""All that an encoder's training works on, made ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from intrinsic.training.embedding.encoder import find_encoder, load_encoder, used_targets
from intrinsic.training.embedding.exam import Exam, cut_labelled, cut_pairs, demand_company
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

_MOST_HELD_OUT = 0.5


def prepare(job: TrainingJob, plan: EmbeddingPlan) -> Prepared[EmbeddingScores]:
    """Read the rows, load the encoder, and pair what is learned and held out."""
    data = read_texts(job.data)
    labelled = isinstance(data.rows[0], LabelledRow)
    asked, plan = plan.validation_share, on_this_machine(plan)
    plan, train, exam = _cut(data, plan)
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
    adapted = _adapted(model, inner, plan)
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
        note=_note(plan, asked, train, (shortened, len(texts))),
        started={"kind": "embedding", "loss": "multiple negatives ranking"},
    )


def _cut(
    data: DataFile[PairRow] | DataFile[LabelledRow], plan: EmbeddingPlan
) -> tuple[EmbeddingPlan, Sequence[PairRow] | Sequence[LabelledRow], Exam]:
    """Rows to learn and an exam; the share held out is doubled while nothing could be measured."""
    cut: Any = cut_labelled if isinstance(data.rows[0], LabelledRow) else cut_pairs
    share = plan.validation_share
    train, exam = cut(data, share, plan.seed, plan.batch_pairs)
    while not exam.batches and share <= _MOST_HELD_OUT / 2:
        share *= 2
        train, exam = cut(data, share, plan.seed, plan.batch_pairs)
    return replace(plan, validation_share=share), train, exam


def _adapted(model: Any, inner: PreTrainedModel, plan: EmbeddingPlan) -> PeftModel:  # noqa: ANN401
    """The transformer with a fresh adapter, which alone learns; the model around it has it too."""
    adapted = add_adapter(inner, plan, plan.targets, task="FEATURE_EXTRACTION")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return adapted


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


def _note(
    plan: EmbeddingPlan, asked: float, train: Sequence[TextRow], shortened: tuple[int, int]
) -> str:
    said = []
    if plan.validation_share != asked:
        said.append(
            f"{100 * plan.validation_share:.3g} % of the rows are held out, for of "
            f"{100 * asked:.3g} % no two can be told apart"
        )
    if shortened[0]:
        said.append(
            f"{shortened[0]} of {shortened[1]} texts have more than {plan.max_length} tokens and "
            "lose their end"
        )
    labelled = [row for row in train if isinstance(row, LabelledRow)]
    alone = sum(len(of) == 1 for of in by_label(labelled).values())
    if alone:
        said.append(f"{alone} labels have but one text and are not learned")
    return "; ".join(said)
