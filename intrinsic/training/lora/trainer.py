"""The loop: transformers' Trainer over batches of our own, kept, stopped and gone on from."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from intrinsic.lora.checkpoint import WEIGHTS_NAME
from intrinsic.training.lora.checkpoints import Checkpoints, declare_whole, read_state
from intrinsic.training.lora.failures import not_a_number
from intrinsic.training.lora.plan import AdapterPlan
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.stopping import StopRequest, TrainingInterrupted, on_signals

_LOG_EVERY = 10


@dataclass(frozen=True, slots=True)
class Course:
    """A model wrapped by PEFT, the batches to learn in their order, and those held out.

    `plan` has nothing left out and no `auto`; batches are what the trainer's `inputs_of` takes.
    """

    model: PeftModel
    learned: list[list[Any]]
    held_out: list[list[Any]]
    plan: AdapterPlan

    @property
    def dtype(self) -> torch.dtype:
        """What products are made in."""
        return torch.bfloat16 if self.plan.dtype == "bf16" else torch.float32


@dataclass(frozen=True, slots=True)
class Fit:
    """What the loop did: steps made, the best one, the training loss about the end."""

    steps: int
    best_step: int
    train_loss: float | None


Make = Callable[[Course, "Telling"], "CourseTrainer"]


def fit(
    course: Course, make: Make, checkpoints: Checkpoints, resume: Path | None, progress: Progress
) -> Fit:
    """Train the adapter over all batches, or until it no longer improves; leave the best in place.

    Goes on from the checkpoint `resume`. Raises `TrainingInterrupted` after a signal, when the
    step is kept, and `BackendError` for a loss that is not finite.
    """
    with on_signals() as request:
        trainer = make(course, Telling(checkpoints, course.plan, progress, request))
        if resume is None or not _is_over(resume, course):
            trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    step, last = checkpoints.whole()[-1]
    state = read_state(last)
    if request.signal_number is not None:
        raise TrainingInterrupted(step, last, request.signal_number)
    best = int(state["best_global_step"])
    weights = load_file(checkpoints.at(best) / WEIGHTS_NAME)
    set_peft_model_state_dict(course.model, weights)
    course.model.eval()
    losses = [float(one["loss"]) for one in state["log_history"] if "loss" in one]
    return Fit(step, best, losses[-1] if losses else None)


def _is_over(checkpoint: Path, course: Course) -> bool:
    """Whether a training had nothing more to do after a checkpoint."""
    state = read_state(checkpoint)
    stored = state["stateful_callbacks"].get("EarlyStoppingCallback", {})
    waited = stored.get("attributes", {}).get("early_stopping_patience_counter", 0)
    patience = course.plan.patience
    return state["global_step"] >= len(course.learned) or bool(patience and waited >= patience)


class CourseTrainer(Trainer, metaclass=ABCMeta):  # type: ignore[misc]
    """One epoch of Trainer's is the whole training, so that its step is the place in the list."""

    control: TrainerControl
    arguments: type[TrainingArguments] = TrainingArguments
    """What the trainer takes its settings as."""

    def __init__(self, course: Course, telling: Telling, **more: object) -> None:
        plan = course.plan
        self.course = course
        callbacks: list[Any] = [telling]
        if plan.patience:
            callbacks.append(EarlyStoppingCallback(plan.patience))
        super().__init__(
            args=_arguments(self.arguments, plan, telling.folder, len(course.learned)),
            train_dataset=course.learned,
            eval_dataset=course.held_out,
            callbacks=callbacks,
            **({"model": course.model} | more),
        )
        self.remove_callback(PrinterCallback)

    @abstractmethod
    def inputs_of(self, batch: list[Any]) -> dict[str, Any]:
        """What `compute_loss` is given for a batch."""

    @abstractmethod
    def held_out_loss(self) -> float:
        """The mean loss of the held-out batches, without dropout; leaves the model as it was."""

    def get_train_dataloader(self) -> DataLoader[list[Any]]:
        """The batches one by one, in their order."""

        def inputs(batch: list[list[Any]]) -> dict[str, Any]:
            return self.inputs_of(batch[0])

        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=inputs)

    def floating_point_ops(self, inputs: object) -> int:
        """Not counted."""
        return 0

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """The held-out loss. Raises `BackendError` where it is not finite."""
        loss = self.held_out_loss()
        if not math.isfinite(loss):
            raise not_a_number(self.state.global_step, self.course.plan.learning_rate)
        metrics = {"eval_loss": loss}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class Telling(TrainerCallback):  # type: ignore[misc]
    """Tells of the progress, declares checkpoints whole, stops where that was asked for."""

    def __init__(
        self, checkpoints: Checkpoints, plan: AdapterPlan, progress: Progress, request: StopRequest
    ) -> None:
        self.folder = checkpoints.folder
        self._checkpoints = checkpoints
        self._plan = plan
        self._progress = progress
        self._request = request

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """A step is done."""
        self._progress.stepped(state.global_step, state.max_steps)
        if self._request:
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: object,
    ) -> None:
        """The training loss is known. Raises `BackendError` where it is not finite."""
        loss = logs.get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise not_a_number(state.global_step, self._plan.learning_rate)
        self._progress.learned(state.global_step, loss)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: object,
    ) -> None:
        """The held-out loss is known."""
        loss = metrics["eval_loss"]
        best = state.best_metric is None or loss < state.best_metric
        self._progress.validated(state.global_step, loss, best=best)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """A checkpoint is written."""
        checkpoint = self._checkpoints.at(state.global_step)
        declare_whole(checkpoint)
        self._progress.kept(state.global_step, checkpoint)


def _arguments(
    kind: type[TrainingArguments], plan: AdapterPlan, folder: Path, steps: int
) -> TrainingArguments:
    every = plan.every or steps
    arguments = kind(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=1,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(0.03 * steps),
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed=plan.seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_steps=min(every, _LOG_EVERY),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        use_cpu=plan.device == "cpu",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel would cut the batches up
    return arguments
