"""Which rows are learned and which are held out."""

from __future__ import annotations

import random
from collections import defaultdict

from intrinsic.errors import ConfigError
from intrinsic.training.lora.rows import TrainingFile, TrainingRow


def split(
    data: TrainingFile, share: float, seed: int
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Return rows to train on and rows to validate on, in the file's order.

    Prompts are drawn, seeded, until their rows are `share` of all, at least one and never the
    last; prompts that differ in spaces and capitals alone count as one. Raises `ConfigError`
    where there is only one.
    """
    groups: dict[str, list[TrainingRow]] = defaultdict(list)
    for row in data.rows:
        groups[row.key].append(row)
    if len(groups) < 2:
        count = len(data.rows)
        found = "1 row" if count == 1 else f"{count} rows, all of one prompt"
        raise ConfigError(
            f"{data.path} has {found}; training needs at least 2 prompts, one to learn and one "
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
