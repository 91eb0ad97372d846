"""Texts of many callers, encoded together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from intrinsic.errors import CheckpointError, EncoderError
from intrinsic.routing import Vectors, query_batches
from intrinsic.routing.query_batches import QueryBatches
from tests.bus.backends import BACKENDS, both_backends


class Slow:
    """Encodes a text as its length; stops in each batch until it is told to go on."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.held = True
        self.broken: Exception | None = None

    def prepare(self) -> None:
        if self.broken is not None:
            raise self.broken

    def __call__(self, texts: list[str]) -> Vectors:
        self.batches.append(texts)
        self.entered.release()
        if self.held:
            self.go_on.acquire()
        if any("bad" in text for text in texts):
            raise ValueError("a bad text")
        return np.array([[len(text)] for text in texts], np.float32)

    def release(self) -> None:
        self.held = False
        self.go_on.release()


def batches(slow: Slow, size: int = 8, busy_timeout_s: float = 60.0) -> QueryBatches[str]:
    return QueryBatches(slow.prepare, slow, name="slow", size=size, busy_timeout_s=busy_timeout_s)


async def waiting(made: QueryBatches[str], calls: int) -> None:
    while len(made._calls) < calls:
        await anyio.lowlevel.checkpoint()


@pytest.fixture(autouse=True)
def _threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_batches, "_IDLE_S", 0.0)


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.release()


@both_backends
async def test_what_comes_while_the_model_is_busy_is_one_batch(slow: Slow) -> None:
    made = batches(slow, size=32)
    answers: dict[int, Vectors] = {}

    async def ask(number: int) -> None:
        answers[number] = await made.embed(["x" * number, "shared!"])

    async with anyio.create_task_group() as group:
        group.start_soon(made.embed, ["first"])
        await anyio.to_thread.run_sync(slow.entered.acquire)
        for number in range(10, 30):
            group.start_soon(ask, number)
        await waiting(made, 21)
        slow.release()
    assert slow.batches[0] == ["first"]
    assert len(slow.batches) == 2
    assert sorted(slow.batches[1]) == sorted(["x" * n for n in range(10, 30)] + ["shared!"])
    for number, rows in answers.items():
        np.testing.assert_array_equal(rows, [[number], [7]])


@both_backends
async def test_a_text_that_is_being_encoded_is_not_encoded_again(slow: Slow) -> None:
    made = batches(slow)
    async with anyio.create_task_group() as group:
        group.start_soon(made.embed, ["same"])
        await anyio.to_thread.run_sync(slow.entered.acquire)
        for _ in range(3):
            group.start_soon(made.embed, ["same"])
        await waiting(made, 4)
        slow.release()
    assert slow.batches == [["same"]]


@both_backends
async def test_few_texts_do_not_wait_behind_many(slow: Slow) -> None:
    made = batches(slow, size=4)
    async with anyio.create_task_group() as group:
        group.start_soon(made.embed, [f"card {n}" for n in range(20)])
        await anyio.to_thread.run_sync(slow.entered.acquire)
        group.start_soon(made.embed, ["query"])
        await waiting(made, 2)
        slow.release()
    assert slow.batches[0] == ["card 0", "card 1", "card 2", "card 3"]
    assert "query" in slow.batches[1]
    assert len(slow.batches[1]) == 4
    assert sorted(chain(*slow.batches)) == sorted([f"card {n}" for n in range(20)] + ["query"])


@both_backends
async def test_more_callers_than_a_batch_holds_take_turns(slow: Slow) -> None:
    made = batches(slow, size=2)
    async with anyio.create_task_group() as group:
        group.start_soon(made.embed, ["first"])
        await anyio.to_thread.run_sync(slow.entered.acquire)
        for name in "abc":
            group.start_soon(made.embed, [f"{name}{n}" for n in range(2)])
            await waiting(made, 2 + "abc".index(name))
        slow.release()
    served = [text[0] for text in chain(*slow.batches[1:])]
    assert served == ["a", "b", "c", "a", "b", "c"]


@both_backends
async def test_a_caller_that_leaves_disturbs_nobody(slow: Slow) -> None:
    made = batches(slow)
    answers: list[Vectors] = []

    async def ask(text: str) -> None:
        answers.append(await made.embed([text]))

    async with anyio.create_task_group() as group:
        group.start_soon(made.embed, ["first"])
        await anyio.to_thread.run_sync(slow.entered.acquire)
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(ask, "leaves")
            leaving.start_soon(ask, "both")
            group.start_soon(ask, "both")
            group.start_soon(ask, "stays on")
            await waiting(made, 5)
            leaving.cancel_scope.cancel()
        slow.release()
    assert sorted(float(rows[0, 0]) for rows in answers) == [4.0, 8.0]
    assert [sorted(batch) for batch in slow.batches] == [["first"], ["both", "stays on"]]


@both_backends
async def test_the_first_caller_may_leave_while_its_batch_runs(slow: Slow) -> None:
    made = batches(slow)
    answers: list[Vectors] = []

    async def ask() -> None:
        answers.append(await made.embed(["text"]))

    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(made.embed, ["text"])
            await anyio.to_thread.run_sync(slow.entered.acquire)
            group.start_soon(ask)
            await waiting(made, 2)
            leaving.cancel_scope.cancel()
        slow.release()
    assert slow.batches == [["text"]]
    np.testing.assert_array_equal(answers[0], [[4]])


@both_backends
async def test_only_the_guilty_text_fails(slow: Slow) -> None:
    made = batches(slow)
    good: list[Vectors] = []
    errors: list[str] = []

    async def ask(*texts: str) -> None:
        try:
            good.append(await made.embed(texts))
        except EncoderError as error:
            errors.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(made.embed, ["first"])
        await anyio.to_thread.run_sync(slow.entered.acquire)
        group.start_soon(ask, "one")
        group.start_soon(ask, "bad")
        group.start_soon(ask, "bad", "three")
        group.start_soon(ask, "three", "one")
        await waiting(made, 5)
        slow.release()
    assert errors == ["a bad text"] * 2
    assert sorted(map(len, good)) == [1, 2]


@both_backends
async def test_what_cannot_be_prepared_fails_once_for_all_and_is_tried_again(slow: Slow) -> None:
    made = batches(slow)
    slow.held = False
    slow.broken = EncoderError("no such model")
    with pytest.raises(EncoderError, match="no such model"):
        await made.embed(["a", "b", "c"])
    assert slow.batches == []
    slow.broken = None
    np.testing.assert_array_equal(await made.embed(["a", "bb"]), [[1], [2]])


@both_backends
async def test_waiting_for_a_model_that_hangs_has_an_end(slow: Slow) -> None:
    made = batches(slow, busy_timeout_s=0.25)  # long enough for its thread to begin
    async with anyio.create_task_group() as group:
        group.start_soon(made.embed, ["hangs"])
        await anyio.to_thread.run_sync(slow.entered.acquire)
        with pytest.raises(EncoderError, match=r"'slow' was busy for 0\.25 s; raise busy_"):
            await made.embed(["waits"])
        slow.release()
    assert slow.batches == [["hangs"]]


def test_callers_on_several_event_loops_share_a_batch(slow: Slow) -> None:
    made = batches(slow)
    answers: list[Vectors] = []

    def on_a_loop(text: str, backend: str) -> threading.Thread:
        async def main() -> None:
            with anyio.fail_after(20):
                answers.append(await made.embed([text]))

        run: Callable[..., Any] = anyio.run
        thread = threading.Thread(target=run, args=(main,), kwargs={"backend": backend})
        thread.start()
        return thread

    threads = [on_a_loop("first", "asyncio")]
    assert slow.entered.acquire(timeout=20)
    threads += [on_a_loop(f"on {backend}", backend) for backend in BACKENDS]
    while len(made._calls) < 3:
        threading.Event().wait(1e-3)
    slow.release()
    for thread in threads:
        thread.join(20)
    assert len(answers) == 3
    assert [len(batch) for batch in slow.batches] == [1, 2]


def test_an_event_loop_that_ended_harms_nobody(slow: Slow) -> None:
    made = batches(slow)

    async def gone() -> None:
        made._calls.append(query_batches._Call(["gone"]))

    anyio.run(gone)
    slow.held = False

    async def ask() -> Vectors:
        return await made.embed(["here"])

    np.testing.assert_array_equal(anyio.run(ask), [[4]])
    assert not made._calls


@both_backends
async def test_an_error_given_for_one_text_is_its_own_and_an_adapters_stays_what_it_is() -> None:
    encoded: list[list[str]] = []

    def encode(texts: list[str]) -> list[Any]:
        encoded.append(texts)
        errors = {"bad": ValueError("a bad text"), "lora": CheckpointError("torn")}
        return [errors.get(text, np.ones(1, np.float32)) for text in texts]

    made = QueryBatches[str](lambda: None, encode, name="x", size=8, busy_timeout_s=60.0)
    with pytest.raises(EncoderError, match="a bad text"):
        await made.embed(["good", "bad"])
    with pytest.raises(CheckpointError, match="torn"):
        await made.embed(["good", "lora"])
    assert encoded == [["good", "bad"], ["good", "lora"]]  # and nothing is tried again
