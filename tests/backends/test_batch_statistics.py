"""A scheduler counts its passes and their rows."""

from __future__ import annotations

from pathlib import Path

from intrinsic.backends import GenerationOptions
from intrinsic.mixture import BASE
from tests.backends.batching import BOTH, A, Passes, backend_of, together
from tests.bus.backends import both_backends


@both_backends
async def test_steps_and_their_rows_are_counted(tmp_path: Path) -> None:
    backend = await backend_of(tmp_path)
    assert backend.batches() == (0, 0, 0, 0)
    passes = Passes(backend, 3)
    asked = [("some words", mixture, GenerationOptions(9)) for mixture in (BASE, A, BOTH)]
    await together(backend, asked)
    steps = [rows for rows, width in zip(passes.rows, passes.widths, strict=True) if width == 1]
    counted = backend.batches()
    assert counted is not None
    assert counted == (len(steps), sum(steps), 0, 0)
    assert counted.row_steps > counted.steps
