"""All that a training works on, made ready; here for prompts and responses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import torch

from intrinsic.errors import ConfigError
from intrinsic.training.lora.answer_trainer import AnswerTrainer
from intrinsic.training.lora.base import (
    BaseModel,
    choose_targets,
    context_of,
    find_base,
    load_base,
    stops_of,
)
from intrinsic.training.lora.data_file import DataFile
from intrinsic.training.lora.encoding import RowEncoder
from intrinsic.training.lora.fresh import add_adapter
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.order import one_pass, passes
from intrinsic.training.lora.plan import LONGEST, MOST_STEPS_BETWEEN, AdapterPlan, LoraPlan
from intrinsic.training.lora.result import Scored
from intrinsic.training.lora.rows import read_rows, some_unasked
from intrinsic.training.lora.scores import Scores, score
from intrinsic.training.lora.split import split
from intrinsic.training.lora.start import Start, start_from
from intrinsic.training.lora.trainer import Course, Make

ScoresT = TypeVar("ScoresT", bound=Scored)
PlanT = TypeVar("PlanT", bound=AdapterPlan)


@dataclass(frozen=True, slots=True)
class Prepared(Generic[ScoresT]):
    """What is learned, on what, how the loop is made, and how what was made is scored.

    `questions` are texts that the card's examples are drawn from. `shortened` texts were cut;
    `note` says of it what people want to know. `started` is noted beside the settings, and two runs
    must share it for one to go on from the other's checkpoints. `score` scores the model as it
    stands.
    """

    data: DataFile[Any]
    questions: tuple[str, ...]
    train_rows: int
    base: BaseModel
    course: Course
    make: Make
    score: Callable[[], ScoresT]
    shortened: int = 0
    note: str = ""
    started: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What two runs must share for one to go on from the other's checkpoints."""
        found = self.course.plan.as_json() | {"data": self.data.digest, "base": self.base.digest}
        return found | dict(self.started)


def prepare(job: TrainingJob, plan: LoraPlan) -> Prepared[Scores]:
    """Read the rows, load the base, and encode what is learned and held out."""
    data = read_rows(job.data)
    train, held = split(data, plan.validation_share, plan.seed)
    plan = on_this_machine(plan)
    base = find_base(job.base)
    dtype = torch.bfloat16 if plan.dtype == "bf16" else torch.float32
    model, tokenizer = load_base(base, dtype)
    start = None if job.start is None else start_from(job.start, model)
    plan = plan if start is None else start.planned(plan)
    plan = replace(
        plan,
        alpha=plan.scale,
        max_length=longest(plan, context_of(model)),
        targets=choose_targets(model, plan.targets),
    )
    encoder = RowEncoder(tokenizer, plan.max_length or LONGEST, stops_of(model, tokenizer))
    asked = some_unasked(train, plan.blank_share, plan.seed)
    encoded = encoder.encode_all(data.path, [*asked, *held])
    learned = passes(encoded[: len(train)], plan.batch_tokens, plan.seed, plan.epochs)
    plan = with_every(plan, len(learned))
    held_out = one_pass(encoded[len(train) :], plan.batch_tokens)
    model = add_adapter(model, plan, plan.targets, start)
    course = Course(model, learned[: plan.max_steps], held_out, plan)

    def scored() -> Scores:
        return score(model, held_out, course.dtype, next(model.parameters()).device)

    return Prepared(
        data=data,
        questions=tuple(row.question for row in train),
        train_rows=len(train),
        base=base,
        course=course,
        make=AnswerTrainer,
        score=scored,
        shortened=encoder.shortened,
        note=cut_note(encoder.shortened, len(data.rows), plan.max_length),
        started=_started(start),
    )


def on_this_machine(plan: PlanT) -> PlanT:
    """The plan with its device and number format chosen. Raises `ConfigError` without CUDA."""
    cuda = torch.cuda.is_available()
    if plan.device == "cuda" and not cuda:
        raise ConfigError(
            "--device is 'cuda', and torch finds no CUDA device here; use cpu or auto"
        )
    device = ("cuda" if cuda else "cpu") if plan.device == "auto" else plan.device
    if plan.dtype != "auto":
        return replace(plan, device=device)
    has_bf16 = device == "cuda" and torch.cuda.is_bf16_supported()
    return replace(plan, device=device, dtype="bf16" if has_bf16 else "fp32")


def longest(plan: AdapterPlan, context: int | None) -> int:
    """Tokens of a row at most. Raises `ConfigError` where the model reads fewer."""
    if plan.max_length is None:
        return min(context or LONGEST, LONGEST)
    if context is not None and plan.max_length > context:
        raise ConfigError(
            f"--max-length is {plan.max_length}; the model reads at most {context} tokens"
        )
    return plan.max_length


def with_every(plan: PlanT, steps: int) -> PlanT:
    """The plan with its steps between validations, of all `steps` that its epochs have."""
    epoch = math.ceil(steps / plan.epochs)
    return replace(
        plan, every=plan.every or min(epoch, steps, plan.max_steps or steps, MOST_STEPS_BETWEEN)
    )


def _started(start: Start | None) -> dict[str, Any]:
    """What is noted of the adapter that a training started from."""
    return {} if start is None else {"start": start.digest}


def cut_note(shortened: int, rows: int, limit: int | None) -> str:
    """What is to be said of prompts that were cut; nothing where none was."""
    if not shortened:
        return ""
    return (
        f"{shortened} of {rows} rows have more than {limit} tokens; their prompts lose their "
        "beginning"
    )
