"""What `intrinsic train` made goes into the registry, whose number was free before it began."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio

from intrinsic.cli.registry_place import opened
from intrinsic.config.place import Where, is_there
from intrinsic.errors import IntrinsicError, RegistryError
from intrinsic.registry.registering import Newcomer
from intrinsic.registry.store.adding import refuse_taken
from intrinsic.registry.store.records import VersionRecord
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.result import TrainedAdapter


def demand_free(where: Where, job: TrainingJob) -> None:
    """Raise `AdapterExistsError`, with the next free version, where the job's is registered."""
    if is_there(where):
        anyio.run(_demand_free, where, job)


def register_trained(where: Where, made: TrainedAdapter[Any], base: str) -> VersionRecord:
    """Register an adapter that was just trained.

    Raises `RegistryError`, which says how to do it by hand, where that fails: the adapter is there.
    """
    try:
        return anyio.run(_register, where, made, base)
    except IntrinsicError as error:
        raise RegistryError(
            f"the adapter is in {made.folder}, but it could not be registered: {error}; "
            f"do that with 'intrinsic adapters register {made.folder}'"
        ) from error


async def _demand_free(where: Where, job: TrainingJob) -> None:
    record = VersionRecord(card=job.card(), path=Path(), digest="", bytes=0)
    async with opened(where) as catalog:
        await catalog.database.read(partial(refuse_taken, record=record))


async def _register(where: Where, made: TrainedAdapter[Any], base: str) -> VersionRecord:
    async with opened(where) as catalog:
        return await catalog.register(Newcomer(made.folder, base_model=base))
