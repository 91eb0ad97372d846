"""Running the command line inside a test."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from intrinsic.cli import main
from intrinsic.cli.app import app


def run(*arguments: object) -> Result:
    """Run a command; its arguments may be anything that has a text."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def printed(*arguments: object) -> dict[str, Any]:
    """Run a command that must succeed, and return the JSON that it prints."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def printed_list(*arguments: object) -> list[dict[str, Any]]:
    """The same of a command that prints a list."""
    found: Any = printed(*arguments)
    return list(found)


def listed(*options: object) -> list[str]:
    """`name@version` of what `adapters list` prints."""
    found = printed_list("adapters", "list", *options)
    return [f"{one['name']}@{one['version']}" for one in found]


def refuses(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: Sequence[str],
    words: str,
) -> None:
    """Check that a command ends with exit code 1 and one sentence that has `words`."""
    monkeypatch.setattr(sys, "argv", ["intrinsic", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("intrinsic: ")
    assert words in last
