"""Batches: of many callers, threads and loops, smaller as texts grow or memory ends; streams."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import torch

from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider
from intrinsic.embedding.encoder import Piece, TextEncoder
from intrinsic.embedding.item import Item
from intrinsic.embedding.memory import in_halves, is_out_of_memory
from intrinsic.embedding.packing import gathered, packed
from intrinsic.errors import EncoderError
from intrinsic.mixture import BASE, Mixture
from intrinsic.registry import AdapterRegistry
from intrinsic.routing.router import Vectors
from tests.bus.backends import both_backends
from tests.embedding.small import by_transformers, same

WORDS = [f"text number {n}" for n in range(12)]

Spied = list[list[int]]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Spied:
    """The lengths in tokens of every pass."""
    seen: Spied = []
    plain = TextEncoder.vectors

    def spy(self: TextEncoder, pieces: Sequence[Piece]) -> Vectors:
        seen.append([len(piece.ids) for piece in pieces])
        return plain(self, pieces)

    monkeypatch.setattr(TextEncoder, "vectors", spy)
    return seen


@both_backends
async def test_batches_shrink_as_texts_grow(model: Path, passes: Spied) -> None:
    options = EmbeddingOptions(model=model, batch_size=4, batch_tokens=40)
    async with EmbeddingProvider(options) as provider:
        await provider.embed_batch([f"{n:02}" for n in range(6)] + [f"{n:020}" for n in range(5)])
    assert sorted(passes) == [[2], [2, 2, 2, 2], [20, 2], [20, 20], [20, 20]]


def test_packing_leaves_no_place_out_and_keeps_to_its_budget() -> None:
    lengths = [3, 50, 1, 7, 7, 0, 12, 100, 2]
    batches = list(packed(lengths, rows=3, tokens=24))
    assert sorted(at for batch in batches for at in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[at] for at in batch) * len(batch) <= 24
        assert len(batch) <= 3


def test_texts_are_gathered_by_length_and_many_of_one_mixture_by_that() -> None:
    one = Mixture.of({"a": 1.0})
    items = [Item("", "x" * n, one if n % 2 else BASE) for n in range(1, 9)]
    items.append(Item("", "y", Mixture.of({"b": 1.0})))
    groups = list(gathered(items, texts=4, characters=1000))
    assert sorted(at for group in groups for at in group) == list(range(len(items)))
    assert all(len(group) <= 4 for group in groups)
    order = [items[at] for group in groups for at in group]
    assert sum(a.mixture != b.mixture for a, b in pairwise(order)) == 2
    assert [len(i.text) for i in order if i.mixture == one] == [7, 5, 3, 1]
    assert [len(g) for g in gathered(items, texts=100, characters=15)] == [2, 3, 4]


@both_backends
async def test_callers_with_different_adapters_share_a_batch(
    model: Path, several: Path, registry: AdapterRegistry, passes: Spied
) -> None:
    async with EmbeddingProvider(EmbeddingOptions(model=model), registry=registry) as provider:
        for name in ("a0", "a1", "a2"):
            await provider.embed_text("first", adapter=name)
        passes.clear()
        found: dict[str, Vectors] = {}
        work: Any = provider._work
        began, go = threading.Event(), threading.Event()
        plain = work.encode

        def held(items: Sequence[Item]) -> Any:
            began.set()
            go.wait(10)
            return plain(items)

        async def ask(name: str) -> None:
            found[name] = await provider.embed_batch(WORDS[:2], adapters=name)

        work.encode = held
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(provider.embed_text, "the one that is under way")
            await anyio.to_thread.run_sync(began.wait, 10)
            for name in ("base", "a0", "a1", "a2"):
                tasks.start_soon(ask, name)
            await anyio.wait_all_tasks_blocked()
            go.set()
    assert [len(lengths) for lengths in passes] == [1, 8]
    for name in ("a0", "a1", "a2"):
        expected = by_transformers(model, WORDS[:2], lora=several / name)
        assert same(found[name], expected)


@both_backends
async def test_any_thread_and_any_loop_may_ask(model: Path, lora: Path, several: Path) -> None:
    registry = AdapterRegistry.from_folder(several)
    options = EmbeddingOptions(model=model, lora_adapter_path=lora, cached_texts=0, max_loaded=1)
    expected = {
        None: by_transformers(model, WORDS, lora=lora),
        "base": by_transformers(model, WORDS),
        "a0": by_transformers(model, WORDS, lora=several / "a0"),
        "a1": by_transformers(model, WORDS, lora=several / "a1"),
    }
    wrong: list[object] = []

    def worker(adapter: str | None, backend: str) -> None:
        async def ask() -> None:
            for _ in range(5):
                found = await provider.embed_batch(WORDS, adapters=adapter)
                if not same(found, expected[adapter]):
                    wrong.append(adapter)

        try:
            anyio.run(ask, backend=backend)
        except BaseException as error:
            wrong.append(error)

    async with EmbeddingProvider(options, registry=registry) as provider:
        threads = [
            threading.Thread(target=worker, args=(adapter, backend))
            for adapter in expected
            for backend in ("asyncio", "trio")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join)
    assert wrong == []


@both_backends
async def test_memory_that_ends_halves_the_batch_and_those_after_it(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []
    plain = TextEncoder.vectors

    def narrow(self: TextEncoder, pieces: Sequence[Piece]) -> Vectors:
        seen.append(len(pieces))
        if len(pieces) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(self, pieces)

    monkeypatch.setattr(TextEncoder, "vectors", narrow)
    options = EmbeddingOptions(model=model, batch_size=16, batch_tokens=16 * 16, cached_texts=0)
    async with EmbeddingProvider(options) as provider:
        first = await provider.embed_batch(WORDS)
        seen.clear()
        again = await provider.embed_batch(WORDS)
    assert same(first, by_transformers(model, WORDS))
    np.testing.assert_allclose(first, again, atol=1e-5)
    assert max(seen) <= 4
    assert any("no memory for 12 texts at once on cpu" in m for m in caplog.messages)


@both_backends
async def test_no_memory_for_one_text_is_an_error_in_words(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: TextEncoder, pieces: Sequence[Piece]) -> Vectors:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried too much")

    monkeypatch.setattr(TextEncoder, "vectors", never)
    async with EmbeddingProvider(EmbeddingOptions(model=model)) as provider:
        with pytest.raises(EncoderError, match="can't allocate memory"):
            await provider.embed_batch(WORDS)


def test_only_memory_is_answered_by_halves() -> None:
    def broken(rows: Sequence[int]) -> np.ndarray[Any, Any]:
        calls.append(len(rows))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    calls: list[int] = []
    with pytest.raises(RuntimeError, match="shapes"):
        in_halves(broken, [1, 2, 3], lambda rows: None)
    assert calls == [3]
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("out of memory"))


@both_backends
async def test_a_caller_that_leaves_harms_nobody(model: Path) -> None:
    async with EmbeddingProvider(EmbeddingOptions(model=model)) as provider:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(provider.embed_batch, WORDS)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert same(await provider.embed_batch(WORDS), by_transformers(model, WORDS))


async def slowly(texts: Sequence[str], taken: list[int]) -> AsyncIterator[str]:
    for number, text in enumerate(texts):
        taken.append(number)
        yield text


@pytest.mark.parametrize("make", [iter, list, slowly])
@both_backends
async def test_a_stream_gives_vectors_in_order_and_holds_few(
    make: Callable[..., Any], model: Path, lora: Path
) -> None:
    taken: list[int] = []
    chunks = make(WORDS, taken) if make is slowly else make(WORDS)
    told: list[tuple[int, int | None]] = []
    options = EmbeddingOptions(model=model, lora_adapter_path=lora, batch_size=5)
    found = []
    async with EmbeddingProvider(options) as provider:
        stream = provider.embed_stream(chunks, lambda done, total: told.append((done, total)))
        async for vector in stream:
            found.append(vector)
            if make is slowly:
                assert len(taken) <= len(found) + 5
    assert same(np.stack(found), by_transformers(model, WORDS, lora=lora))
    total = len(WORDS) if make is list else None
    assert told == [(5, total), (10, total), (12, total)]


@both_backends
async def test_a_streams_progress_may_refuse(model: Path) -> None:
    def refuse(done: int, total: int | None) -> None:
        raise ValueError("enough")

    async with EmbeddingProvider(EmbeddingOptions(model=model)) as provider:
        with pytest.raises(ValueError, match="enough"):
            async for _ in provider.embed_stream(WORDS, refuse):
                pass
        assert (await provider.embed_batch(WORDS)).shape[0] == len(WORDS)


@both_backends
async def test_what_is_cached_is_kept_by_adapter(
    model: Path, several: Path, registry: AdapterRegistry, passes: Spied
) -> None:
    async with EmbeddingProvider(EmbeddingOptions(model=model), registry=registry) as provider:
        await provider.embed_batch(WORDS, adapters="a0")
        passes.clear()
        await provider.embed_batch(WORDS, adapters="a0")
        assert passes == []
        found = await provider.embed_batch(WORDS, adapters="a1")
    assert same(found, by_transformers(model, WORDS, lora=several / "a1"))
