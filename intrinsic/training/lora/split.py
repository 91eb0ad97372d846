"""Which rows are learned and which are held out."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TypeVar

from intrinsic.errors import ConfigError
from intrinsic.training.lora.data_file import DataFile, Row

RowT = TypeVar("RowT", bound=Row)


def split(
    data: DataFile[RowT], share: float, seed: int, unit: str = "prompt"
) -> tuple[list[RowT], list[RowT]]:
    """Return rows to train on and rows to validate on, in the file's order.

    Keys are drawn, seeded, until their rows are `share` of all, at least one and never the last;
    of prompts, those that differ in spaces and capitals alone have one key. Raises `ConfigError`
    where there is only one; `unit` says what a key stands for.
    """
    groups: dict[str, list[RowT]] = defaultdict(list)
    for row in data.rows:
        groups[row.key].append(row)
    if len(groups) < 2:
        count = len(data.rows)
        found = "1 row" if count == 1 else f"{count} rows, all of one {unit}"
        raise ConfigError(
            f"{data.path} has {found}; training needs at least 2 {unit}s, one to learn and one "
            "to be measured on"
        )
    keys = sorted(groups)
    random.Random(seed).shuffle(keys)
    held: set[str] = set()
    rows = 0
    for key in keys[:-1]:
        if held and rows + len(groups[key]) / 2 > share * len(data.rows):
            break
        held.add(key)
        rows += len(groups[key])
    train = [row for row in data.rows if row.key not in held]
    return train, [row for row in data.rows if row.key in held]
