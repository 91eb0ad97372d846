"""So many run, so many wait, in their order; alone is alone; nobody's place is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from intrinsic.server.envelope import ApiError
from intrinsic.server.request_queue import RequestQueue
from tests.bus.backends import both_backends


class Office:
    """Requests by name: each notes when it begins, and ends when it is told to."""

    def __init__(self, queue: RequestQueue, tasks: TaskGroup) -> None:
        self.queue = queue
        self.began: list[str] = []
        self.refused: list[str] = []
        self.answers: list[tuple[int, str]] = []
        self._tasks = tasks
        self._ends: dict[str, anyio.Event] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}

    async def comes(self, *names: str) -> None:
        """Requests come, one after the other; those in capitals want to be alone."""
        for name in names:
            self._ends[name] = anyio.Event()
            self._scopes[name] = anyio.CancelScope()
            self._tasks.start_soon(self._request, name)
            await anyio.wait_all_tasks_blocked()

    async def ends(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await anyio.wait_all_tasks_blocked()

    async def leaves(self, *names: str) -> None:
        for name in names:
            self._scopes[name].cancel()
        await anyio.wait_all_tasks_blocked()

    async def _request(self, name: str) -> None:
        place = self.queue.alone if name.isupper() else self.queue.place
        with self._scopes[name]:
            try:
                async with place():
                    self.began.append(name)
                    await self._ends[name].wait()
            except ApiError as error:
                self.refused.append(name)
                self.answers.append((error.status, error.headers["Retry-After"]))


@asynccontextmanager
async def office(*, max_running: int, max_queued: int = 100) -> AsyncIterator[Office]:
    queue = RequestQueue(max_running=max_running, max_queued=max_queued)
    async with anyio.create_task_group() as tasks:
        yield Office(queue, tasks)
        tasks.cancel_scope.cancel()
    assert (queue.running, queue.waiting) == (0, 0)
    async with queue.place():
        assert queue.running == 1


@both_backends
async def test_so_many_run_and_the_others_wait_in_their_order() -> None:
    async with office(max_running=2) as one:
        await one.comes(*"abcde")
        assert (one.began, one.queue.running, one.queue.waiting) == ([*"ab"], 2, 3)
        await one.ends("b")
        assert one.began == [*"abc"]
        await one.ends("a")
        assert one.began == [*"abcd"]
        await one.ends("d")
        assert one.began == [*"abcde"]


@both_backends
async def test_where_too_many_wait_the_next_is_refused_and_nobody_else() -> None:
    async with office(max_running=1, max_queued=2) as one:
        await one.comes(*"abcdE")
        assert one.refused == [*"dE"]
        assert set(one.answers) == {(429, "1")}
        await one.ends("a")
        await one.comes("f")
        assert one.refused == [*"dE"]
        await one.ends("b", "c")
        assert one.began == [*"abcf"]


@both_backends
async def test_without_a_queue_what_cannot_run_at_once_is_refused() -> None:
    async with office(max_running=1, max_queued=0) as one:
        await one.comes("a", "b")
        assert (one.began, one.refused) == (["a"], ["b"])
        await one.ends("a")
        await one.comes("C")
        assert one.began == ["a", "C"]


@both_backends
async def test_who_leaves_the_queue_is_not_waited_for() -> None:
    async with office(max_running=1) as one:
        await one.comes(*"abcd")
        await one.leaves("b", "d")
        assert one.queue.waiting == 1
        await one.ends("a")
        assert one.began == [*"ac"]


@both_backends
async def test_who_leaves_while_running_frees_the_place() -> None:
    async with office(max_running=1) as one:
        await one.comes(*"ab")
        await one.leaves("a")
        assert one.began == [*"ab"]


@both_backends
async def test_alone_waits_for_those_before_and_is_waited_for_by_those_after() -> None:
    async with office(max_running=3) as one:
        await one.comes("a", "b", "X", "c", "d")
        assert one.began == ["a", "b"]
        await one.ends("a")
        assert one.began == ["a", "b"]
        await one.ends("b")
        assert (one.began, one.queue.running) == (["a", "b", "X"], 1)
        await one.comes("e")
        assert one.began[-1] == "X"
        await one.ends("X")
        assert one.began[:3] == ["a", "b", "X"]
        assert sorted(one.began[3:]) == [*"cde"]  # at once, in any order


@both_backends
async def test_those_who_come_all_the_time_do_not_keep_one_from_being_alone() -> None:
    async with office(max_running=2) as one:
        await one.comes("a", "b", "X")
        for before, after in zip("ab", "cd", strict=True):
            await one.comes(after)
            await one.ends(before)
        assert one.began == ["a", "b", "X"]


@both_backends
async def test_when_one_that_would_be_alone_leaves_the_others_go_on() -> None:
    async with office(max_running=2) as one:
        await one.comes("a", "X", "b", "Y")
        assert one.began == ["a"]
        await one.leaves("X")
        assert one.began == ["a", "b"]
        await one.ends("a", "b")
        assert one.began == ["a", "b", "Y"]


@both_backends
async def test_of_several_that_would_be_alone_each_is() -> None:
    async with office(max_running=4) as one:
        await one.comes(*"XYZ")
        assert (one.began, one.queue.running) == (["X"], 1)
        await one.ends("X")
        assert (one.began, one.queue.running) == ([*"XY"], 1)
        await one.leaves("Y")
        assert (one.began, one.queue.running) == ([*"XYZ"], 1)


@both_backends
async def test_one_that_is_cancelled_as_its_turn_comes_gives_it_on() -> None:
    async with office(max_running=1) as one:
        await one.comes(*"abc")
        one._ends["a"].set()
        one._scopes["b"].cancel()
        await anyio.wait_all_tasks_blocked()
        assert one.began[-1] == "c"


@both_backends
async def test_an_error_in_the_block_frees_the_place() -> None:
    queue = RequestQueue(max_running=1, max_queued=0)
    for place in (queue.place, queue.alone):
        with pytest.raises(ValueError, match="in the block"):
            await _fail_in(place)
        assert queue.running == 0


async def _fail_in(place: Callable[[], AbstractAsyncContextManager[None]]) -> None:
    async with place():
        await checkpoint()
        raise ValueError("in the block")
