"""The standards that tools can check: floors, style, types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("check", [("check",), ("format", "--check")], ids=" ".join)
def test_style(check: tuple[str, ...]) -> None:
    run("-m", "ruff", *check, ".")


def test_imports_go_down_a_floor_and_the_ground_floor_needs_no_torch() -> None:
    run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")


def test_types() -> None:
    run("-m", "mypy")


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
