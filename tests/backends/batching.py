"""A tiny backend whose passes are counted, and the slow way to what it must answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import torch
from torch import nn

from intrinsic.backends import Generation, GenerationOptions
from intrinsic.backends.job import Job
from intrinsic.backends.scheduler import BatchScheduler
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.mixture import Mixture
from tests.tiny import llama, tokenizer, write_adapter

Asked = tuple[str, Mixture, GenerationOptions]
A, B = Mixture.of({"a": 1.0}), Mixture.of({"b": -0.7})
BOTH = Mixture.of({"a": 0.4, "b": 0.8})


class Passes:
    """Counts the rows of each pass; the first so many requests are handed in all at once."""

    def __init__(self, backend: TransformersBackend, requests: int = 1) -> None:
        self.rows: list[int] = []
        self.widths: list[int] = []
        self.width = 0
        self.before: Callable[[int], None] = lambda rows: None
        self._arrivals = threading.Semaphore(0)
        self._early: list[Job] = []
        self._missing = requests
        self._runner: Any = backend._runner
        self._submit = backend._runner.submit
        self._forward = backend.model.forward
        backend.model.forward = self
        vars(backend._runner)["submit"] = self.submit

    def submit(self, job: Job) -> None:
        self._missing -= 1
        if self._missing > 0:
            self._early.append(job)
            return
        self._runner._waiting.extend(self._early)
        self._early.clear()
        self._submit(job)
        self._arrivals.release()

    def wait_for_an_arrival(self) -> None:
        assert self._arrivals.acquire(timeout=10), "nobody came"

    def __call__(self, **kwargs: Any) -> Any:
        rows, width = kwargs["input_ids"].shape
        self.width = width
        self.before(rows)
        self.rows.append(rows)
        self.widths.append(width)
        return self._forward(**kwargs)


async def backend_of(folder: Path, model: Any = None, **settings: Any) -> TransformersBackend:
    backend = TransformersBackend(llama() if model is None else model, tokenizer(), **settings)
    for seed, name in enumerate("ab", 1):
        targets = [
            n.rsplit(".", 1)[-1]
            for n, m in backend.model.named_modules()
            if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"
        ]
        targets = sorted(set(targets) - {"lm_head"})
        path = write_adapter(folder / name, backend.model, targets=targets, seed=seed)
        await backend.load_lora_adapter(str(path), name)
    return backend


def by_hand(backend: TransformersBackend, prompt: str, mixture: Mixture, tokens: int) -> list[int]:
    """Slow reference: a pass over all ids for each token, without cache, batch or padding."""
    ids = list(backend.tokenizer(prompt)["input_ids"])
    start = len(ids)
    with backend.engine.activate(mixture), torch.no_grad():
        for _ in range(tokens):
            ids.append(int(backend.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == backend.tokenizer.eos_token_id:
                break
    return ids[start:]


async def together(backend: TransformersBackend, asked: Sequence[Asked]) -> dict[int, Generation]:
    found: dict[int, Generation] = {}

    async def ask(number: int, prompt: str, mixture: Mixture, options: GenerationOptions) -> None:
        found[number] = await backend.generate(prompt, mixture=mixture, options=options)

    async with anyio.create_task_group() as tasks:
        for number, (prompt, mixture, options) in enumerate(asked):
            tasks.start_soon(ask, number, prompt, mixture, options)
    return found


def idle(backend: TransformersBackend) -> bool:
    runner = backend._runner
    assert isinstance(runner, BatchScheduler)
    return not (runner._batches or runner._reader.rows or runner._waiting)
