"""However a call is cancelled, the model is free and as it was when the call has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from intrinsic.backends import Generation, GenerationOptions, Piece, running
from intrinsic.backends import host_tier as module
from intrinsic.backends.outbox import Outbox
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.bus.backends import both_backends
from tests.test_worker import Gate, cancel_twice
from tests.tiny import llama, tokenizer, write_adapter

A = Mixture.of({"a": 1.0})
LONG = GenerationOptions(max_new_tokens=50)


def gated(backend: TransformersBackend) -> Gate:
    """Hold each forward pass of the backend's model until the gate is opened."""
    gate, forward = Gate(), backend.model.forward

    def wait_and_go(*args: object, **kwargs: object) -> Any:
        gate()
        return forward(*args, **kwargs)

    backend.model.forward = wait_and_go
    return gate


async def backend_with_a(folder: Path) -> TransformersBackend:
    backend = TransformersBackend(llama(), tokenizer())
    await backend.load_lora_adapter(str(write_adapter(folder / "a", backend.model)), "a")
    return backend


async def read(backend: TransformersBackend) -> None:
    async with aclosing(backend.stream("hello", mixture=A, options=LONG)) as pieces:
        async for _ in pieces:
            pass


CALLS: dict[str, Callable[[TransformersBackend], Coroutine[Any, Any, object]]] = {
    "generate": lambda backend: backend.generate("hello", mixture=A, options=LONG),
    "stream": read,
    "score": lambda backend: backend.score("hello", ["x"] * 80, mixture=A),
}


@pytest.mark.parametrize("call", CALLS)
def test_natively_cancelled_twice_the_work_ends_before_the_caller(
    tmp_path: Path, call: str
) -> None:
    async def main() -> None:
        backend = await backend_with_a(tmp_path)
        gate = gated(backend)
        task = asyncio.create_task(CALLS[call](backend))
        await gate.until_entered()
        await cancel_twice(task)
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert backend.engine._running == 0
        await backend.unload_lora_adapter("a")

    asyncio.run(main())


@pytest.mark.parametrize("call", CALLS)
def test_a_time_out_ends_the_work_first(tmp_path: Path, call: str) -> None:
    async def main() -> None:
        backend = await backend_with_a(tmp_path)
        gate = gated(backend)
        opener = threading.Timer(0.2, gate.opened.set)
        opener.start()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(CALLS[call](backend), 0.1)
        await backend.unload_lora_adapter("a")
        opener.join()

    asyncio.run(main())


@pytest.mark.parametrize("call", CALLS)
@both_backends
async def test_a_cancelled_scope_ends_the_work_first(tmp_path: Path, call: str) -> None:
    backend = await backend_with_a(tmp_path)
    gate = gated(backend)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(CALLS[call], backend)
        await gate.until_entered()
        tasks.cancel_scope.cancel()
        gate.opened.set()
    await backend.unload_lora_adapter("a")


@both_backends
async def test_scoring_ends_after_the_batch_that_runs(tmp_path: Path) -> None:
    backend = await backend_with_a(tmp_path)
    gate, forward, passes = Gate(), backend.model.forward, []

    def count(*args: object, **kwargs: object) -> Any:
        passes.append(1)
        gate()
        return forward(*args, **kwargs)

    backend.model.forward = count
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(CALLS["score"], backend)
        await gate.until_entered()
        tasks.cancel_scope.cancel()
        for _ in range(5):
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
        gate.opened.set()
    assert len(passes) == 1


def test_a_load_that_is_cancelled_leaves_nothing_on_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()

    def slow(path: str) -> Any:
        gate()
        return read_checkpoint(path)

    async def main() -> None:
        backend = TransformersBackend(llama(), tokenizer())
        path = str(write_adapter(tmp_path / "a", backend.model))
        monkeypatch.setattr(module, "read_checkpoint", slow)
        task = asyncio.create_task(backend.load_lora_adapter(path, "a"))
        await gate.until_entered()
        await cancel_twice(task)
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert backend.engine.loaded == ()
        await backend.load_lora_adapter(path, "a")

    asyncio.run(main())


@pytest.mark.parametrize("backend_name", ["asyncio", "trio"])
def test_a_thread_whose_event_loop_is_gone_just_ends(
    backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend(llama(), tokenizer())
    gate, ended = gated(backend), threading.Event()

    async def token() -> anyio.lowlevel.EventLoopToken:
        return anyio.lowlevel.current_token()

    gone = anyio.run(token, backend=backend_name)
    monkeypatch.setattr(Outbox, "current", lambda: Outbox(gone))
    job = backend._job("hello", BASE, LONG)
    pieces, receive = anyio.create_memory_object_stream[Piece](99)
    call = running.Running(backend._runner, job)
    job.emit = lambda piece: call._post_piece(pieces, piece)
    with pieces, receive:
        call._start(pieces)
        tell = job.end

        def end(result: Generation | BaseException) -> None:
            tell(result)
            ended.set()

        job.end = end
        gate.opened.set()
        assert ended.wait(10)
    assert job.cancelled.is_set()
    assert call._outcome().tokens < 50
