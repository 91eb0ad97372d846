"""The two backends of these tests are really two."""

from __future__ import annotations

import sys

import anyio
import anyio.lowlevel
import sniffio

from tests.bus.backends import BACKENDS, both_backends

seen: list[str] = []


@both_backends
async def test_runs_under_the_library_that_it_names() -> None:
    seen.append(sniffio.current_async_library())


def test_both_libraries_were_seen_and_trio_was_really_running() -> None:
    seen.clear()

    async def main() -> None:
        seen.append(sniffio.current_async_library())
        if seen[-1] == "trio":
            assert sys.modules["trio"].lowlevel.current_task() is not None
        else:
            assert anyio.get_cancelled_exc_class().__module__ == "asyncio.exceptions"

    for backend in BACKENDS:
        anyio.run(main, backend=backend)
    assert seen == ["asyncio", "trio"]
