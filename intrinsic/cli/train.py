"""`intrinsic train`: an adapter from rows, with what it gained."""

from __future__ import annotations

import warnings

from intrinsic.cli.output import print_json, print_table, tell
from intrinsic.cli.registry_place import Where
from intrinsic.cli.stopped import told_when_stopped
from intrinsic.cli.train_progress import shown
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.plan import LoraPlan
from intrinsic.training.lora.result import TrainedAdapter
from intrinsic.training.lora.scores import Scores
from intrinsic.training.lora.train import trained


def run_train(job: TrainingJob, plan: LoraPlan, registry: Where | None, *, as_json: bool) -> None:
    """Train, write, register, and print base against adapter; a signal ends with its exit code.

    Without a `registry` it is not registered.
    """
    from intrinsic.cli.train_registering import demand_free, register_trained
    from intrinsic.training.lora.rows import read_rows

    read_rows(job.data)  # what is wrong with it is told before torch is imported, which takes long
    if registry is not None:
        demand_free(registry, job)
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with told_when_stopped(), warnings.catch_warnings(), shown(quiet=as_json) as progress:
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's, on transformers' names
        made = trained(job, plan, progress)
    record = None if registry is None else register_trained(registry, made, job.base)
    if as_json:
        kept = None if record is None else {"id": record.id, "active": record.active}
        print_json(made.as_json() | {"registered": kept})
        return
    _print(made)
    if record is not None:
        state = "active" if record.active else "not active"
        tell(f"{record.key} is registered in {registry}, and {state}")


def _print(made: TrainedAdapter[Scores]) -> None:
    base, adapter = made.base, made.adapter
    print_table(
        f"{made.card.key} on {adapter.rows} held-out rows ({adapter.tokens} answer tokens)",
        ("figure", "base", "adapter"),
        [
            ("loss, nats per answer token", f"{base.loss:.4f}", f"{adapter.loss:.4f}"),
            ("perplexity", f"{base.perplexity:.4g}", f"{adapter.perplexity:.4g}"),
            (
                "token accuracy",
                f"{100 * base.token_accuracy:.1f} %",
                f"{100 * adapter.token_accuracy:.1f} %",
            ),
        ],
    )
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
