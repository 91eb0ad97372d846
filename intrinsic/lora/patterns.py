"""Patterns of a checkpoint's config: valid, and quick to match whatever the names are."""

from __future__ import annotations

import importlib
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from intrinsic.errors import CheckpointError
from intrinsic.lora.wording import named, short

_PARSER: Any = importlib.import_module("re._parser")

_MAX_PATTERN = 512
MAX_PATHS, _MAX_SPANS, _NAME_LENGTH = 2**22, 4, 64
"""A pattern may have so many ways through a name of this length, and unbounded repeats in a row."""

BY_NAME = r"(.*\.)?({})$"
BY_LAYER = r"(?:^|.*?\.){}\.(?P<index>\d+)\."
"""How PEFT wraps a pattern of ranks or alphas, and one of layers, before it matches."""


def check_pattern(pattern: str, wrap: str, setting: str) -> float:
    """Refuse what `re` cannot compile as PEFT wraps it, and what could match for hours.

    Returns how many ways there are through a name.
    """
    if len(pattern) > _MAX_PATTERN:
        raise CheckpointError(
            f"{setting} has {short(pattern)} of {len(pattern)} characters; "
            f"a pattern may have {_MAX_PATTERN}"
        )
    try:
        re.compile(pattern)
        re.compile(wrap.format(pattern))
        spans, choices = _paths(_PARSER.parse(wrap.format(pattern)))
    except (re.error, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{setting} has {named(pattern)}, no valid pattern: {str(error)[:200]}"
        ) from None
    # Ranks and alphas are matched to the file's own names, which may be long and hostile too.
    most = MAX_PATHS >> 2 if wrap == BY_NAME else MAX_PATHS
    ways = math.inf
    if spans <= _MAX_SPANS:
        ways = choices * _NAME_LENGTH**spans / math.factorial(int(spans))
    if ways > most:
        raise CheckpointError(
            f"{setting} has {named(pattern)}, which could take hours to match; "
            "use fewer repeats, and none inside another"
        )
    return ways


def _paths(tree: Iterable[tuple[Any, Any]]) -> tuple[float, float]:
    """Bound how often `re` may backtrack: unbounded repeats on one path, times other choices.

    The repeats are infinite where a repeat holds another, or alternatives that overlap.
    """
    spans, choices = 0.0, 1.0
    for op, value in tree:
        more = (0.0, 1.0)
        if "REPEAT" in str(op):
            more = _repeated(*value)
        elif str(op) == "BRANCH":
            more = _branched(value[1])
        elif isinstance(value, tuple | _PARSER.SubPattern):  # groups, lookarounds, conditions
            inner = value if isinstance(value, tuple) else (value,)
            more = _branched([part for part in inner if isinstance(part, _PARSER.SubPattern)])
        spans, choices = spans + more[0], min(choices * more[1], 1e30)
    return spans, choices


def _repeated(low: int, high: int, body: Any) -> tuple[float, float]:  # noqa: ANN401
    spans, choices = _paths(body)
    if high <= 1:
        return spans, choices + (low != high)
    if spans or choices > 1:
        return math.inf, choices
    count = high - low + 1 if body.getwidth()[0] else high  # what is empty takes no letters away
    return (0.0, float(count)) if count < _NAME_LENGTH else (1.0, 1.0)


def _branched(branches: list[Any]) -> tuple[float, float]:
    """Alternatives that begin with different letters cannot both match at one place."""
    found = [_paths(branch) for branch in branches]
    firsts: Counter[str] = Counter()
    for branch, (_, choices) in zip(branches, found, strict=True):
        op, value = branch[0] if len(branch) else ("", 0)
        letter = chr(value).lower() if str(op) == "LITERAL" and value < 128 else ""
        firsts[letter] += int(choices)
    anywhere = firsts.pop("", 0)
    most = anywhere + max(firsts.values(), default=0)
    return max((s for s, _ in found), default=0.0), float(max(most, 1))
