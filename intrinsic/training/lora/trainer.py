"""The loop: transformers' Trainer over batches of our own, with the loss on answers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
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
from intrinsic.training.lora.order import Batches
from intrinsic.training.lora.plan import LoraPlan
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.scores import answer_logits, score
from intrinsic.training.lora.stopping import StopRequest, TrainingInterrupted, on_signals
from intrinsic.training.scoring import Encoded, pad_batch

_LOG_EVERY = 10


@dataclass(frozen=True, slots=True)
class Course:
    """A model wrapped by PEFT, the batches to learn in their order, and those held out.

    `plan` has nothing left out and no `auto`.
    """

    model: PeftModel
    learned: Batches
    held_out: Batches
    plan: LoraPlan

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


def fit(course: Course, checkpoints: Checkpoints, resume: Path | None, progress: Progress) -> Fit:
    """Train the adapter over all batches, or until it no longer improves; leave the best in place.

    Goes on from the checkpoint `resume`. Raises `TrainingInterrupted` after a signal, when the
    step is kept, and `BackendError` for a loss that is not finite.
    """
    with on_signals() as request:
        trainer = _AnswerTrainer(course, checkpoints, progress, request)
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


class _AnswerTrainer(Trainer):  # type: ignore[misc]
    """One epoch of Trainer's is the whole training, so that its step is the place in the list."""

    control: TrainerControl

    def __init__(
        self,
        course: Course,
        checkpoints: Checkpoints,
        progress: Progress,
        request: StopRequest,
    ) -> None:
        plan = course.plan
        self._course = course
        callbacks: list[Any] = [_Telling(checkpoints, plan, progress, request)]
        if plan.patience:
            callbacks.append(EarlyStoppingCallback(plan.patience))
        super().__init__(
            model=course.model,
            args=_arguments(plan, checkpoints.folder, len(course.learned)),
            train_dataset=course.learned,
            eval_dataset=course.held_out,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[list[Encoded]]:
        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=_inputs)

    def compute_loss(
        self,
        model: PeftModel,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: object = None,
    ) -> Tensor:
        logits, targets = answer_logits(
            model, inputs["input_ids"], inputs["labels"], self._course.dtype
        )
        return torch.nn.functional.cross_entropy(logits, targets)

    def floating_point_ops(self, inputs: object) -> int:
        return 0

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        found = score(self.model, self._course.held_out, self._course.dtype, self.args.device)
        if not math.isfinite(found.loss):
            raise not_a_number(self.state.global_step, self._course.plan.learning_rate)
        metrics = {"eval_loss": found.loss}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class _Telling(TrainerCallback):  # type: ignore[misc]
    """Tells of the progress, declares checkpoints whole, stops where that was asked for."""

    def __init__(
        self, checkpoints: Checkpoints, plan: LoraPlan, progress: Progress, request: StopRequest
    ) -> None:
        self._checkpoints = checkpoints
        self._plan = plan
        self._progress = progress
        self._request = request

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
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
        loss = metrics["eval_loss"]
        best = state.best_metric is None or loss < state.best_metric
        self._progress.validated(state.global_step, loss, best=best)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        checkpoint = self._checkpoints.at(state.global_step)
        declare_whole(checkpoint)
        self._progress.kept(state.global_step, checkpoint)


def _inputs(batch: list[list[Encoded]]) -> dict[str, Tensor]:
    ids, labels = pad_batch(batch[0])
    return {"input_ids": ids, "labels": labels}


def _arguments(plan: LoraPlan, folder: Path, steps: int) -> TrainingArguments:
    every = plan.every or steps
    arguments = TrainingArguments(
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
