"""Adapters on the disk, and a database filled with many versions in bulk."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from sqlalchemy import Connection, insert

from intrinsic.card import AdapterCard
from intrinsic.registry.inspection import Inspection
from intrinsic.registry.provenance import Provenance, TrainingData
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.records import VersionRecord, values_of
from intrinsic.registry.store.schema import HISTORY, VERSIONS

RANK, WIDTH = 16, 1_024
DOMAINS = ("coding", "law", "medicine", "finance", "travel", "music", "mathematics", "history")
BASES = ("org/base-1b", "org/base-7b", "org/other-7b", "org/small")
NOWHERE = Path("/nowhere/adapters")
CONFIG = (
    '{"peft_type": "LORA", "r": 16, "lora_alpha": 32, "bias": "none", '
    '"target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "org/base-1b"}'
)


def write_adapters(folder: Path, count: int, size: int, seed: int) -> int:
    """Write that many adapters of about `size` bytes, each other than the rest; return all bytes.

    Rank 16 over layers of 1,024, in fp32: 128 KiB for each module.
    """
    random_ = np.random.default_rng(seed)
    modules = max(1, round(size / (2 * RANK * WIDTH * 4)))
    written = 0
    for number in range(count):
        tensors: dict[str, Any] = {}
        for module in range(modules):
            side = "qv"[module % 2]
            layer = f"base_model.model.model.layers.{module // 2}.self_attn.{side}_proj"
            tensors[f"{layer}.lora_A.weight"] = random_.random((RANK, WIDTH), np.float32)
            tensors[f"{layer}.lora_B.weight"] = random_.random((WIDTH, RANK), np.float32)
        path = folder / f"adapter-{number:05}"
        path.mkdir(parents=True)
        safetensors.numpy.save_file(tensors, str(path / "adapter_model.safetensors"))
        (path / "adapter_config.json").write_text(CONFIG)
        (path / "card.toml").write_text(
            f'domain = "{DOMAINS[number % len(DOMAINS)]}"\n'
            f'description = "Answers questions of kind {number}."\n'
            f"examples = {[f'question {one} of kind {number}' for one in range(10)]}\n"
        )
        written += sum(file.stat().st_size for file in path.iterdir())
    return written


async def fill(database: Database, count: int, seed: int) -> None:
    """Keep that many versions, five of each name; their files are nowhere."""
    rows = list(_records(count, random.Random(seed)))

    def write(connection: Connection) -> None:
        connection.execute(insert(VERSIONS), [values_of(row) for row in rows])
        notes = [
            {"version_id": row.id, "at": row.created_at, "event": "registered", "detail": {}}
            for row in rows
        ]
        connection.execute(insert(HISTORY), notes)

    await database.write(write)


def _records(count: int, random_: random.Random) -> Iterator[VersionRecord]:
    modules = {
        f"model.layers.{layer}.self_attn.{side}_proj": (WIDTH, WIDTH)
        for layer in range(24)
        for side in "qv"
    }
    inspection = Inspection("d" * 64, 2**20, (RANK,), modules, ("lora",), "float32")
    trained = Provenance(
        trainer="intrinsic train",
        data=TrainingData("rows", digest="e" * 64, rows=5_000),
        hyperparameters={"rank": RANK, "epochs": 3, "lr": 1e-4},
        seed=0,
        final_loss=0.5,
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(count):
        name, version = number // 5, number % 5
        domain = random_.choice(DOMAINS)
        card = AdapterCard(
            f"{domain}-{name:05}",
            f"1.{version}.0",
            domain.capitalize(),
            f"Answers questions about {domain} of kind {name}.",
            (domain, "questions"),
            tuple(f"question {one} about {domain} of kind {name}" for one in range(10)),
        )
        one = VersionRecord(
            card=card,
            path=NOWHERE / f"{name}" / f"{version}",
            digest=f"{number:064x}",
            bytes=random_.randrange(2**20, 2**26),
            base_model=random_.choice(BASES),
            inspection=inspection.as_json(),
            active=version == 4,
            created_at=start + timedelta(seconds=random_.randrange(10**7)),
        )
        trained_here = random_.random() < 0.3
        yield replace(one, provenance=trained, trained_here=True) if trained_here else one
