"""Training a hypernetwork end to end: the loss of the answers, through the generated weights."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from intrinsic.errors import ConfigError
from intrinsic.hypernet.course import Course, Trained
from intrinsic.hypernet.encoded import Batch, Batches, EncodedTask, TaskEncoder
from intrinsic.hypernet.losses import answer_loss, divergence, reconstruction
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.scores import generated_for, score_tasks
from intrinsic.hypernet.state import State
from intrinsic.hypernet.stored import stacked, stored_factors
from intrinsic.training.lora.checkpoints import Checkpoints
from intrinsic.training.lora.failures import not_a_number
from intrinsic.training.lora.preparing import cut_note
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.scores import answer_logits
from intrinsic.training.lora.stopping import StopRequest, TrainingInterrupted, on_signals

_TOLD_EVERY = 10
_MEAN_OF = 20
_VALIDATION_WORDINGS = 2
_MOST_NORM = 1.0


def train(
    course: Course,
    plan: HypernetPlan | None = None,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    *,
    resume: bool = True,
) -> Trained:
    """Train the course's network in place; the model is not changed and ends as it was.

    With `checkpoints` a training that was killed goes on where it was kept, and ends with the same
    bytes on a CPU with as many threads; remove them when the network is saved. It blocks: call it
    in a worker thread from async code. Raises `ConfigError` for tasks that cannot be encoded and
    checkpoints of another training, `BackendError` for a loss that runs away,
    `TrainingInterrupted` after a signal, where there are checkpoints.
    """
    plan, progress = plan or HypernetPlan(), progress or Progress()
    training = _Training(course, plan, progress)
    with _frozen(course.model):
        if checkpoints is None:
            return training.run(None, None, StopRequest())
        identity = course.identity(plan)
        with checkpoints.open(identity, resume=resume) as found, on_signals() as request:
            return training.run(checkpoints, found, request)


class _Training:
    """One run over the steps that are left."""

    def __init__(self, course: Course, plan: HypernetPlan, progress: Progress) -> None:
        self._course, self._plan, self._progress = course, plan, progress
        self._network = course.network.to(course.model.device)
        encoder = TaskEncoder(course.model, course.tokenizer, course.encoder, plan.max_length)
        tasks = encoder.tasks(course.tasks)
        _check_known(tasks)
        rows = sum(len(task.rows) for task in tasks)
        if note := cut_note(encoder.shortened, rows, encoder.length):
            progress.note(note)
        self._validation = encoder.tasks(course.validation)
        foreign = course.foreign(plan.seed) if plan.nonsense_share else []
        self._batches = Batches(tasks, encoder.queries(foreign), plan)
        self._stored = stored_factors(self._network.targets, course.adapters)
        self._known = [task for task in tasks if task.task.name in self._stored]
        weights = [p for p in self._network.parameters() if p.requires_grad]
        fused = all(weight.dtype == torch.float32 for weight in weights)
        self._weights = weights
        self._optimizer = torch.optim.AdamW(
            weights, lr=0.0, betas=(0.9, 0.98), weight_decay=plan.weight_decay, fused=fused
        )
        self._warm_up = plan.warm_up_steps if self._known else 0

    def run(
        self, checkpoints: Checkpoints | None, found: Path | None, request: StopRequest
    ) -> Trained:
        started = time.monotonic()
        state = State.load(found, self._network, self._optimizer) if found else State()
        begun = state.step
        if begun:
            self._progress.note(f"going on from step {begun}, kept in {found}")
        self._network.train()
        while not self._is_over(state):
            self._step(state)
            self._progress.stepped(state.step, self._steps)
            due = state.step % self._plan.every == 0 or state.step == self._steps
            if due:
                self._validate(state)
            if checkpoints is not None and (due or request):
                kept = state.save(checkpoints, self._network, self._optimizer)
                self._progress.kept(state.step, kept)
                if request.signal_number is not None:
                    raise TrainingInterrupted(state.step, kept, request.signal_number)
        self._network.eval()
        if state.best is not None:
            self._network.load_state_dict(state.best)
        return self._trained(state, begun, time.monotonic() - started)

    @property
    def _steps(self) -> int:
        return self._warm_up + self._plan.steps

    def _is_over(self, state: State) -> bool:
        patience = self._plan.patience
        return state.step >= self._steps or bool(patience and state.waited >= patience)

    def _step(self, state: State) -> None:
        plan, at = self._plan, state.step - self._warm_up
        torch.manual_seed(random.Random(f"{plan.seed}:{state.step}").getrandbits(63))
        batch = self._batches.at(at) if at >= 0 else None
        loss = self._warm_up_loss(state.step) if batch is None else self._loss(batch)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._weights, _MOST_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = plan.learning_rate if at < 0 else plan.rate_at(at)
        self._optimizer.step()
        self._optimizer.zero_grad()
        state.step += 1
        self._note(state, batch, loss.item())

    def _loss(self, batch: Batch) -> Tensor:
        model, device = self._course.model, self._course.model.device
        ids, labels = batch.ids.to(device), batch.labels.to(device)
        bare = None
        if batch.nonsense:
            with torch.no_grad():
                bare, _ = answer_logits(model, ids, labels, torch.float32)
        with generated_for(model, self._network, batch.embeddings):
            if bare is None:
                return answer_loss(model, ids, labels, len(batch.embeddings))[0]
            adapted, _ = answer_logits(model, ids, labels, torch.float32)
        return self._plan.nonsense_weight * divergence(adapted, bare)

    def _warm_up_loss(self, step: int) -> Tensor:
        draw = random.Random(f"{self._plan.seed}:warm-up:{step}")
        tasks = draw.sample(self._known, min(self._plan.tasks_per_step, len(self._known)))
        embeddings = torch.stack([draw.choice(list(task.embeddings)) for task in tasks])
        pairs = self._network.expand(self._network.payload(embeddings))
        wanted = stacked([self._stored[task.task.name] for task in tasks])
        place = self._course.model.device
        moved = [(A.to(place), B.to(place)) for A, B in wanted]
        return reconstruction(pairs, moved, self._network.scale)

    def _note(self, state: State, batch: Batch | None, loss: float) -> None:
        if not math.isfinite(loss):
            raise not_a_number(state.step, self._plan.learning_rate)
        history = state.history
        points = history.warm_up if batch is None else history.learned
        if batch is not None and batch.nonsense:
            points = history.nonsense
        points.append((state.step, loss))
        if state.step % _TOLD_EVERY == 0:
            mean = _mean_of_last(history.learned, _TOLD_EVERY)
            self._progress.learned(state.step, loss if mean is None else mean)

    def _validate(self, state: State) -> None:
        if not self._validation:
            return
        loss = self._validation_loss(self._validation)
        if not math.isfinite(loss):
            raise not_a_number(state.step, self._plan.learning_rate)
        best = state.take(loss, self._network, counts=state.step > self._warm_up)
        self._progress.validated(state.step, loss, best=best)

    def _validation_loss(self, tasks: list[EncodedTask]) -> float:
        self._network.eval()
        found = score_tasks(
            self._course.model,
            self._network,
            tasks,
            rows=self._plan.validation_rows,
            descriptions=_VALIDATION_WORDINGS,
        )
        self._network.train()
        return sum(one.loss for one in found) / len(found)

    def _trained(self, state: State, begun: int, seconds: float) -> Trained:
        return Trained(
            steps=state.step,
            best_step=state.best_step if state.best is not None else state.step,
            train_loss=_mean_of_last(state.history.learned, _MEAN_OF),
            validation_loss=state.best_loss,
            history=state.history,
            resumed_from=begun,
            seconds=seconds,
        )


def _check_known(tasks: Sequence[EncodedTask]) -> None:
    """Raise `ConfigError` for a description that the encoder makes nothing of."""
    for task in tasks:
        for text, embedding in zip(task.task.descriptions, task.embeddings, strict=True):
            if not embedding.any():
                raise ConfigError(
                    f"task {task.task.name!r}: the encoder knows no word of the description "
                    f"{text!r:.80}; put it in words, or take another --encoder"
                )


def _mean_of_last(points: list[tuple[int, float]], count: int) -> float | None:
    last = [value for _, value in points[-count:]]
    return sum(last) / len(last) if last else None


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """The model takes no gradients and no dropout, and the random state is left as it was."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    wanted = [(p, p.requires_grad) for p in model.parameters()]
    was_training = model.training
    with torch.random.fork_rng(devices=devices):
        try:
            model.eval().requires_grad_(False)
            yield
        finally:
            model.train(was_training)
            for parameter, wants in wanted:
                parameter.requires_grad_(wants)
