"""The two backends of these tests are really two."""

from __future__ import annotations

import sniffio
import trio

from tests.bus.backends import both_backends

seen: list[tuple[str, bool]] = []


def in_trio() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


@both_backends
async def test_notes_the_library_that_runs_it() -> None:
    seen.append((sniffio.current_async_library(), in_trio()))


def test_one_ran_on_asyncio_and_one_on_trio() -> None:
    seen.clear()
    for mark in test_notes_the_library_that_runs_it.pytestmark:  # type: ignore[attr-defined]
        for backend in mark.args[1]:
            test_notes_the_library_that_runs_it(backend=backend)
    assert seen == [("asyncio", False), ("trio", True)]
