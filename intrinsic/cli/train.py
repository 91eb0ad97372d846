"""`intrinsic train`: an adapter from rows, with what it gained."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from intrinsic.cli.output import print_json, print_table, tell
from intrinsic.cli.stopped import told_when_stopped
from intrinsic.cli.train_progress import shown
from intrinsic.config.place import Where
from intrinsic.training.embedding.plan import EmbeddingPlan
from intrinsic.training.embedding.train import trained_embedding
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.plan import AdapterPlan, LoraPlan
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.result import TrainedAdapter
from intrinsic.training.lora.train import trained

if TYPE_CHECKING:
    from intrinsic.training.embedding.scores import EmbeddingScores
    from intrinsic.training.lora.scores import Scores


def run_train(
    job: TrainingJob, plan: AdapterPlan, registry: Where | None, *, as_json: bool
) -> None:
    """Train, write, register, and print base against adapter; a signal ends with its exit code.

    Without a `registry` it is not registered.
    """
    from intrinsic.cli.train_registering import demand_free, register_trained

    _read(job, plan)  # what is wrong with it is told before torch is imported, which takes long
    if registry is not None:
        demand_free(registry, job)
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with told_when_stopped(), warnings.catch_warnings(), shown(quiet=as_json) as progress:
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's, on transformers' names
        made, base = _trained(job, plan, progress)
    record = None if registry is None else register_trained(registry, made, base)
    if as_json:
        kept = None if record is None else {"id": record.id, "active": record.active}
        print_json(made.as_json() | {"registered": kept})
        return
    _print(made, plan)
    if record is not None:
        state = "active" if record.active else "not active"
        tell(f"{record.key} is registered in {registry}, and {state}")


def _read(job: TrainingJob, plan: AdapterPlan) -> None:
    if isinstance(plan, EmbeddingPlan):
        from intrinsic.training.embedding.rows import read_texts

        read_texts(job.data)
    else:
        from intrinsic.training.lora.rows import read_rows

        read_rows(job.data)


def _trained(
    job: TrainingJob, plan: AdapterPlan, progress: Progress
) -> tuple[TrainedAdapter[Any], str]:
    """What was made, and the base as the registry shall know it."""
    if isinstance(plan, EmbeddingPlan):
        made = trained_embedding(job, plan, progress)
        return made, made.provenance.base_model
    assert isinstance(plan, LoraPlan)
    return trained(job, plan, progress), job.base


def _print(made: TrainedAdapter[Any], plan: AdapterPlan) -> None:
    of_texts = isinstance(plan, EmbeddingPlan)
    what, figures = _text_figures(made) if of_texts else _answer_figures(made)
    title = f"{made.card.key} on {made.adapter.rows} held-out rows ({what})"
    print_table(title, ("figure", "base", "adapter"), figures)
    tell(
        f"{made.folder} is written: step {made.best_step} of {made.steps}, "
        f"{made.parameters:,} parameters, trained on {made.train_rows} rows in "
        f"{made.seconds:.1f} s"
    )
    if made.gain <= 0:
        tell(
            "intrinsic: the adapter is no better than its base on the held-out rows; try more or "
            "other rows, another --lr, or more --epochs"
        )


_Figures = tuple[str, list[tuple[str, str, str]]]


def _answer_figures(made: TrainedAdapter[Scores]) -> _Figures:
    base, adapter = made.base, made.adapter
    return f"{adapter.tokens} answer tokens", [
        ("loss, nats per answer token", f"{base.loss:.4f}", f"{adapter.loss:.4f}"),
        ("perplexity", f"{base.perplexity:.4g}", f"{adapter.perplexity:.4g}"),
        (
            "token accuracy",
            f"{100 * base.token_accuracy:.1f} %",
            f"{100 * adapter.token_accuracy:.1f} %",
        ),
    ]


def _text_figures(made: TrainedAdapter[EmbeddingScores]) -> _Figures:
    base, adapter = made.base, made.adapter
    return f"the nearest of {adapter.passages} texts", [
        ("loss, nats per pair", f"{base.loss:.4f}", f"{adapter.loss:.4f}"),
        (
            "nearest text is right",
            f"{100 * base.accuracy:.1f} %",
            f"{100 * adapter.accuracy:.1f} %",
        ),
    ]
