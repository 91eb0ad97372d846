"""How a command ends: exit code 0, one sentence and 1, 2 for wrong usage, 141 for a closed pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from intrinsic.cli.output import (
    CLOSED_PIPE_EXIT_CODE,
    OutputClosedError,
    discard_output,
    tell,
)
from intrinsic.errors import IntrinsicError

ExitCode = int | str | None


def run_command(command: Callable[[], object]) -> ExitCode:
    """Run a command and return its exit code; errors that are no faults of ours are told.

    Anything else that it raises gets out, with its traceback.
    """
    code: ExitCode = 0
    try:
        command()
    except SystemExit as ended:
        code = ended.code
    except (Exception, BaseExceptionGroup) as error:
        code = _code_of(error)
        if code is None:
            raise
    return _flushed(code)


def _code_of(error: BaseException) -> ExitCode:
    """Tell an error and return its exit code; None for a fault of ours, which is not told."""
    leaves = list(_leaves(error))
    if any(isinstance(leaf, OutputClosedError | BrokenPipeError) for leaf in leaves):
        discard_output()
        return CLOSED_PIPE_EXIT_CODE
    if not all(isinstance(leaf, IntrinsicError | OSError) for leaf in leaves):
        return None
    for leaf in leaves:
        tell(f"intrinsic: {leaf}")
    return 1


def _flushed(code: ExitCode) -> ExitCode:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return CLOSED_PIPE_EXIT_CODE
    except OSError as error:
        discard_output()
        if code == 0:
            tell(f"intrinsic: {error}")
        return code or 1
    return code


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
