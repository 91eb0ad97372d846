"""What goes wrong in a batch harms the request that it belongs to, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
import torch
from transformers import LogitsProcessor

from intrinsic.backends import Generation, GenerationOptions
from intrinsic.backends.decoder import Decoder
from intrinsic.backends.prompts import PromptReader
from intrinsic.backends.row import Row
from intrinsic.mixture import Mixture
from tests.backends.batching import BOTH, A, B, Passes, backend_of, by_hand, idle, together
from tests.bus.backends import both_backends


@both_backends
async def test_an_error_in_choosing_is_one_rows_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            if input_ids.shape[1] > 8:
                raise ZeroDivisionError
            return scores

    build = Decoder.__init__

    def with_failing(self: Decoder, model: Any, words: Any, job: Any) -> None:
        build(self, model, words, job)
        if job.mixture == B:
            self.processors.append(Failing())

    backend = await backend_of(tmp_path)
    expected = by_hand(backend, "hello", A, 20)
    monkeypatch.setattr(Decoder, "__init__", with_failing)
    found: dict[str, Generation] = {}

    async def sound() -> None:
        found["a"] = await backend.generate("hello", mixture=A, options=GenerationOptions(20))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sound)
        with pytest.raises(ZeroDivisionError):
            await backend.generate("hello", mixture=B, options=GenerationOptions(20))
    assert found["a"].text == backend.tokenizer.decode(expected, skip_special_tokens=True)
    await backend.unload_lora_adapter("b")


# What each pass is, by its rows and the tokens of a row.
STEP, PROMPTS, ASKING = (3, 1), (3, 5), (2, 3)


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("where", [STEP, PROMPTS, ASKING])
@both_backends
async def test_a_pass_that_fails_is_taken_again_row_by_row(
    tmp_path: Path, where: tuple[int, int], lasting: bool
) -> None:
    """As where memory runs out: what can go on alone does."""
    backend = await backend_of(tmp_path)
    asked = [(f"row {n}", m, GenerationOptions(12)) for n, m in enumerate([A, B, BOTH])]
    expected = [by_hand(backend, p, m, 12) for p, m, _ in asked]
    passes = Passes(backend, 3)
    failed: list[int] = []

    def fail(rows: int) -> None:
        if (rows, passes.width) == where and (lasting or not failed):
            failed.append(rows)
            raise torch.OutOfMemoryError("no room for so many")

    passes.before = fail
    found = await together(backend, asked)
    for number, ids in enumerate(expected):
        assert found[number].text == backend.tokenizer.decode(ids, skip_special_tokens=True)
    assert failed
    assert idle(backend)


@pytest.mark.parametrize("where", ["batch.join", "batch.keep", "prompts.keep"])
@both_backends
async def test_a_cache_that_cannot_change_is_given_up_for_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    backend = await backend_of(tmp_path)
    sizes = [(9, 1), (10, 9), (30, 6), (31, 12)]  # two pairs of like length; one ends at once
    asked = [
        ("x" * size, [A, B, BOTH][n % 3], GenerationOptions(tokens))
        for n, (size, tokens) in enumerate(sizes)
    ]
    expected = [by_hand(backend, p, m, options.max_new_tokens) for p, m, options in asked]
    Passes(backend, 4)
    calls: list[str] = []

    def fail(*_: object) -> None:
        calls.append(where)
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(f"intrinsic.backends.{where}", fail)
    found = await together(backend, asked)
    for number, ids in enumerate(expected):
        assert found[number].text == backend.tokenizer.decode(ids, skip_special_tokens=True)
    assert calls
    assert idle(backend)
    assert backend.engine._running == 0


@both_backends
async def test_an_error_nobody_foresaw_ends_everything_and_the_next_request_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await backend_of(tmp_path)

    def broken(self: PromptReader) -> None:
        raise ArithmeticError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(PromptReader, "read", broken)
        for _ in range(2):
            with pytest.raises(ArithmeticError):
                await backend.generate("hello", mixture=A)
    assert (await backend.generate("hello", mixture=A)).tokens > 0
    await backend.unload_lora_adapter("a")


@both_backends
async def test_a_row_of_an_adapter_that_is_not_loaded_harms_nobody(tmp_path: Path) -> None:
    from intrinsic.errors import AdapterNotLoadedError

    backend = await backend_of(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.generate, "hello")
        with pytest.raises(AdapterNotLoadedError):
            await backend.generate("hello", mixture=Mixture.of({"c": 1.0}))
    assert idle(backend)


def test_a_row_holds_its_adapters_until_it_ends(tmp_path: Path) -> None:
    from intrinsic.errors import AdapterInUseError

    backend = anyio.run(backend_of, tmp_path)
    job = backend._job("hello", A, GenerationOptions(2))
    row = Row(backend.model, backend.tokenizer, backend.engine, job)
    with pytest.raises(AdapterInUseError):
        backend.engine.unload("a")
    row.end()
    backend.engine.unload("a")
