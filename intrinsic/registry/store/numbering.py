"""Versions in order, 1.10 after 1.9, and the next one that is free."""

from __future__ import annotations

import re
from collections.abc import Collection

_SEMANTIC = re.compile(r"(\d+\.\d+\.)(\d+)(?:\+.*)?", re.DOTALL)
_END = "0-~"  # after a text that begins with a hyphen, before any other
_OTHER = re.compile(r"(.*?)(\d*)", re.DOTALL)


def version_order(version: str) -> str:
    """A text that sorts, byte by byte, as the version does among the versions of an adapter.

    Runs of digits count as numbers, after every other text; a version comes before one that it
    begins, but after its own pre-releases. So 1.9 < 1.10-rc1 < 1.10 < 1.10.1.
    """
    parts = re.findall(r"\d+|\D+", version)
    return "".join(_number(part) if part.isdecimal() else f"0{part}\t" for part in parts) + _END


def next_free(version: str, taken: Collection[str]) -> str:
    """The first version after a taken one that nobody has: the next patch, or the next number.

    1.2.3 is followed by 1.2.4, 7 by 8, 2.0-rc1 by 2.0-rc2, final by final1.
    """
    match = _SEMANTIC.fullmatch(version) or _OTHER.fullmatch(version)
    head, number = match.groups()  # type: ignore[union-attr]
    count = int(number or 0) + 1
    while f"{head}{count}" in taken:
        count += 1
    return f"{head}{count}"


def _number(digits: str) -> str:
    plain = str(int(digits))
    return f"1{len(plain):02}{plain}"
