"""Records to fill a database with, and processes that do so at the same moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intrinsic.card import AdapterCard
from intrinsic.registry.store.records import VersionRecord

ROOT = Path(__file__).parents[3]


def record(key: str = "sql@1.0.0", *, domain: str = "", **fields: Any) -> VersionRecord:
    """A version by its `name@version`."""
    name, _, version = key.partition("@")
    card = AdapterCard(name, version or "1.0.0", domain=domain)
    given: dict[str, Any] = {
        "path": Path("/adapters") / name,
        "digest": "d" * 64,
        "bytes": 1,
    } | fields
    return VersionRecord(card=card, **given)


def run_at_once(what: Sequence[str], processes: int = 2) -> list[Any]:
    """Run `child.py` in several processes that begin together; return what each of them says."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.registry.store.child", *what],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        for child in running:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in running:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [child.communicate(timeout=60)[0] for child in running]
    finally:
        for child in running:
            child.kill()
            child.communicate()
    assert [child.returncode for child in running] == [0] * processes
    return [json.loads(text) for text in said]
