"""The way in: from a base model and a file of rows to an adapter on disk."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from intrinsic.errors import ConfigError
from intrinsic.extras import how_to_install
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.plan import LoraPlan
from intrinsic.training.lora.progress import Progress

if TYPE_CHECKING:
    from intrinsic.training.lora.result import TrainedAdapter
    from intrinsic.training.lora.scores import Scores

PACKAGES = ("peft", "accelerate")


def trained(
    job: TrainingJob, plan: LoraPlan | None = None, progress: Progress | None = None
) -> TrainedAdapter[Scores]:
    """Train an adapter, score it against its base on held-out rows, and write its folder.

    Everything that can be known before is checked before: target, rows, settings, base. The folder
    is there whole or not at all. A run that was killed goes on from its last checkpoint when it is
    asked for again; on the CPU, with the same libraries and as many threads, it ends with the same
    bytes. It blocks, and seeds the random numbers of Python, numpy and torch; call it in a worker
    thread from async code, where signals are left alone.

    Raises `ConfigError` for settings, rows, and checkpoints of another training;
    `AdapterExistsError` where the folder is taken; `BackendError` for a base that is not there and
    a loss that runs away; `CapacityError` for a full memory, `AdapterError` for a full disk;
    `TrainingInterrupted`, a `KeyboardInterrupt`, after a signal.
    """
    need_packages()
    from intrinsic.training.lora.failures import ways_to_lower
    from intrinsic.training.lora.preparing import prepare
    from intrinsic.training.lora.running import run

    return run(job, plan or LoraPlan(), progress or Progress(), prepare, ways_to_lower)


def need_packages(names: Sequence[str] = PACKAGES) -> None:
    """Raise `ConfigError`, which says what to install, where a package is missing."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"training needs the package {name}, which cannot be imported ({error}); "
                + how_to_install("train")
            ) from error
