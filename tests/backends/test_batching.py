"""Requests under different mixtures share one batch, and each gets what it gets alone."""

from __future__ import annotations

import random
import re
import threading
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch
from torch import nn

from intrinsic.backends import Generation, GenerationOptions, prompts
from intrinsic.backends.alone import AloneRunner
from intrinsic.backends.scheduler import BatchScheduler
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.errors import ConfigError
from intrinsic.mixture import BASE, Mixture
from tests.backends.batching import BOTH, A, B, Passes, backend_of, by_hand, idle, together
from tests.bus.backends import both_backends
from tests.engine.zoo import KINDS, Kind
from tests.tiny import llama, tokenizer


@both_backends
async def test_sixteen_mixtures_share_a_batch_token_for_token(tmp_path: Path) -> None:
    backend = await backend_of(tmp_path)
    weights = [(number - 8) / 5 for number in range(16)]
    asked = [
        ("x" * (1 + 3 * number), Mixture.of({"a": w, "b": 0.3}), GenerationOptions(12))
        for number, w in enumerate(weights)
    ]
    expected = [by_hand(backend, prompt, mixture, 12) for prompt, mixture, _ in asked]
    assert len({tuple(ids) for ids in expected}) > 8
    passes = Passes(backend, 16)
    found = await together(backend, asked)
    for number, ids in enumerate(expected):
        text = backend.tokenizer.decode(ids, skip_special_tokens=True)
        assert (found[number].text, found[number].tokens) == (text, len(ids))
    assert max(passes.rows) == 16
    assert len(passes.rows) < 16 + 2 * 12 + 2
    assert idle(backend)
    assert backend.engine._running == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@both_backends
async def test_any_model_gives_each_row_its_own_tokens(tmp_path: Path, kind: Kind) -> None:
    backend = await backend_of(tmp_path, kind.build())
    assert isinstance(backend._runner, BatchScheduler)
    asked = [
        ("some words", A, GenerationOptions(14)),
        ("x", BASE, GenerationOptions(9)),
        ("and a longer prompt, of other words", BOTH, GenerationOptions(11)),
        ("yes", B, GenerationOptions(16)),
    ]
    expected = [by_hand(backend, p, m, options.max_new_tokens) for p, m, options in asked]
    passes = Passes(backend, 4)
    found = await together(backend, asked)
    for number, ids in enumerate(expected):
        assert found[number].text == backend.tokenizer.decode(ids, skip_special_tokens=True)
    assert max(passes.rows) == 4


@both_backends
async def test_rows_join_between_steps_and_leave_without_touching_the_others(
    tmp_path: Path,
) -> None:
    backend = await backend_of(tmp_path)
    long = by_hand(backend, "a long answer", A, 40)
    short = by_hand(backend, "hi", B, 4)
    passes = Passes(backend)

    def before(rows: int) -> None:
        if len(passes.rows) in (0, 5):
            passes.wait_for_an_arrival()

    passes.before = before
    pieces: list[str] = []
    found: list[Generation] = []

    async def ask_in_between() -> None:
        found.append(await backend.generate("hi", mixture=B, options=GenerationOptions(4)))

    async with anyio.create_task_group() as tasks:
        stream = backend.stream("a long answer", mixture=A, options=GenerationOptions(40))
        async with aclosing(stream):
            async for piece in stream:
                pieces.append(piece)
                if len(pieces) == 1:
                    tasks.start_soon(ask_in_between)
    assert "".join(pieces) == backend.tokenizer.decode(long, skip_special_tokens=True)
    assert found[0].text == backend.tokenizer.decode(short, skip_special_tokens=True)
    # One pass asks the model whether it keeps rows apart, and three are steps of both.
    assert re.fullmatch("1+2{4}1+", "".join(map(str, passes.rows)))


@both_backends
async def test_random_arrivals_lengths_and_departures(tmp_path: Path) -> None:
    backend = await backend_of(tmp_path)
    chance = random.Random(0)
    mixtures = [BASE, A, B, BOTH]
    asked = [
        (
            "".join(chance.choices("abc def", k=chance.randint(0, 30))) + "x",
            chance.choice(mixtures),
            GenerationOptions(chance.randint(1, 20)),
        )
        for _ in range(40)
    ]
    expected = [by_hand(backend, p, m, options.max_new_tokens) for p, m, options in asked]
    wrong: list[int] = []

    async def ask(number: int, turns: int) -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        prompt, mixture, options = asked[number]
        text = (await backend.generate(prompt, mixture=mixture, options=options)).text
        if text != backend.tokenizer.decode(expected[number], skip_special_tokens=True):
            wrong.append(number)

    async def ask_and_leave(number: int) -> None:
        with anyio.move_on_after(0.005 * (number % 5)):
            await ask(number, 0)

    async with anyio.create_task_group() as tasks:
        for number in range(len(asked)):
            tasks.start_soon(ask, number, chance.randint(0, 200))
            tasks.start_soon(ask_and_leave, number)
    assert wrong == []
    assert idle(backend)
    for name in "ab":
        await backend.unload_lora_adapter(name)


@both_backends
async def test_a_cancelled_row_frees_its_adapter_while_the_others_go_on(tmp_path: Path) -> None:
    backend = await backend_of(tmp_path)
    expected = by_hand(backend, "go on", B, 50)
    passes = Passes(backend, 2)
    found: dict[int, Generation] = {}

    async def stay() -> None:
        found[0] = await backend.generate("go on", mixture=B, options=GenerationOptions(50))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stay)
        stream = backend.stream("leave", mixture=A, options=GenerationOptions(50))
        async with aclosing(stream):
            pieces = [await anext(stream) for _ in range(3)]
        assert len(pieces) == 3
        await backend.unload_lora_adapter("a")
    assert found[0].text == backend.tokenizer.decode(expected, skip_special_tokens=True)
    assert 2 in passes.rows


@both_backends
async def test_a_request_that_waits_is_cancelled_at_once(tmp_path: Path) -> None:
    backend = await backend_of(tmp_path, max_rows=1)
    passes = Passes(backend)
    entered, opened = threading.Event(), threading.Event()

    def hold(rows: int) -> None:
        entered.set()
        assert opened.wait(10)

    passes.before = hold
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.generate, "first")
        await anyio.to_thread.run_sync(entered.wait, 10)
        with anyio.move_on_after(0.05) as scope:
            await backend.generate("second", mixture=A)
        assert scope.cancelled_caught  # though the first still holds the thread
        opened.set()
    assert max(passes.rows) == 1
    await backend.unload_lora_adapter("a")


@both_backends
async def test_no_more_rows_than_allowed(tmp_path: Path) -> None:
    backend = await backend_of(tmp_path, max_rows=3)
    asked = [(f"number {n}", [A, B][n % 2], GenerationOptions(8)) for n in range(10)]
    expected = [by_hand(backend, p, m, 8) for p, m, _ in asked]
    passes = Passes(backend, 10)
    found = await together(backend, asked)
    texts = [backend.tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
    assert [found[n].text for n in range(10)] == texts
    assert max(passes.rows) == 3
    for number in (0, -1, True, 1.5):
        with pytest.raises(ConfigError, match="max_rows is"):
            TransformersBackend(llama(), tokenizer(), max_rows=number)  # type: ignore[arg-type]


@both_backends
async def test_each_row_decodes_in_its_own_way(tmp_path: Path) -> None:
    backend = await backend_of(tmp_path)
    ways = [
        GenerationOptions(20, temperature=1.3, seed=5, top_k=20),
        GenerationOptions(20, temperature=0.9, seed=6, top_p=0.8),
        GenerationOptions(20, repetition_penalty=1.5),
        GenerationOptions(20, temperature=1.0, seed=5, repetition_penalty=0.5),
        GenerationOptions(20),
    ]
    stopped = (await backend.generate("hello", mixture=A, options=ways[4])).text[5:7]
    ways.append(GenerationOptions(20, stop=(stopped,)))
    alone = [await backend.generate("hello", mixture=A, options=way) for way in ways]
    assert len({generation.text for generation in alone}) == len(ways)
    passes = Passes(backend, 6)
    found = await together(backend, [("hello", A, way) for way in ways])
    for number, generation in enumerate(alone):
        assert found[number].text == generation.text
        assert found[number].finish_reason == generation.finish_reason
    assert max(passes.rows) == 6


@both_backends
async def test_prompts_of_like_length_are_read_together(tmp_path: Path) -> None:
    backend = await backend_of(tmp_path)
    prompts_ = ["first", *("x" * n for n in (20, 21, 22, 24, 60, 3))]
    asked = [(p, [A, B, BOTH, BASE][n % 4], GenerationOptions(3)) for n, p in enumerate(prompts_)]
    expected = [by_hand(backend, p, m, 3) for p, m, _ in asked]
    passes = Passes(backend, len(asked))
    found = await together(backend, asked)
    for number, ids in enumerate(expected):
        assert found[number].text == backend.tokenizer.decode(ids, skip_special_tokens=True)
    reads = [(r, w) for r, w in zip(passes.rows, passes.widths, strict=True) if w > 3]
    assert (4, 24) in reads
    assert (1, 60) in reads


@both_backends
async def test_a_long_prompt_is_read_in_parts_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "PROMPT_TOKENS", 8)
    backend = await backend_of(tmp_path)
    asked = [
        ("go", A, GenerationOptions(10)),
        ("a prompt of more than forty characters, it is", B, GenerationOptions(5)),
        ("x" * 17, BOTH, GenerationOptions(5)),
    ]
    expected = [by_hand(backend, p, m, options.max_new_tokens) for p, m, options in asked]
    passes = Passes(backend, 3)
    found = await together(backend, asked)
    for number, ids in enumerate(expected):
        assert found[number].text == backend.tokenizer.decode(ids, skip_special_tokens=True)
    assert max(passes.widths) == 8
    parts = [at for at, width in enumerate(passes.widths) if width > 1]
    assert any(1 in passes.widths[left:right] for left, right in pairwise(parts))


@both_backends
async def test_where_a_layer_regroups_its_input_rows_share_a_batch_by_mixture(
    tmp_path: Path,
) -> None:
    class Regrouped(nn.Module):
        def __init__(self, mlp: nn.Module) -> None:
            super().__init__()
            self.experts = nn.ModuleList([mlp])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.experts[0](x)
            return out

    model = llama()
    for layer in model.model.layers:
        layer.mlp = Regrouped(layer.mlp)
    backend = await backend_of(tmp_path, model)
    asked = [(f"row {n}", m, GenerationOptions(9)) for n, m in enumerate([A, B, A, BOTH, B, A])]
    expected = [by_hand(backend, p, m, 9) for p, m, _ in asked]
    passes = Passes(backend, 6)
    found = await together(backend, asked)
    for number, ids in enumerate(expected):
        assert found[number].text == backend.tokenizer.decode(ids, skip_special_tokens=True)
    assert max(passes.rows) == 3


@pytest.mark.parametrize(
    "settings",
    [{"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}],
)
@both_backends
async def test_models_whose_rows_look_at_each_other_run_one_by_one(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    from tests.engine.zoo import LLAMA

    backend = await backend_of(tmp_path, LLAMA.build(**settings))
    assert isinstance(backend._runner, AloneRunner)
    asked = [("hello", A, GenerationOptions(9)), ("a longer one", B, GenerationOptions(12))]
    expected = [by_hand(backend, p, m, options.max_new_tokens) for p, m, options in asked]
    found = await together(backend, asked * 3)
    for number, generation in found.items():
        ids = expected[number % 2]
        assert generation.text == backend.tokenizer.decode(ids, skip_special_tokens=True)
    await backend.unload_lora_adapter("a")


def test_two_event_loops_share_one_batch(tmp_path: Path) -> None:
    backend = anyio.run(backend_of, tmp_path)
    expected = [by_hand(backend, "hello", mixture, 20) for mixture in (A, B)]
    texts: dict[int, str] = {}

    async def ask(number: int) -> None:
        mixture = (A, B)[number % 2]
        generation = await backend.generate("hello", mixture=mixture, options=GenerationOptions(20))
        texts[number] = generation.text

    threads = [
        threading.Thread(target=lambda n=n: anyio.run(ask, n, backend=("asyncio", "trio")[n // 2]))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        ids = expected[number % 2]
        assert texts[number] == backend.tokenizer.decode(ids, skip_special_tokens=True)


@both_backends
async def test_a_long_prompt_takes_turns_with_those_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "PROMPT_TOKENS", 8)
    backend = await backend_of(tmp_path)
    asked = [("x" * 60, A, GenerationOptions(2)), ("hi", B, GenerationOptions(2))]
    expected = [by_hand(backend, p, m, 2) for p, m, _ in asked]
    passes = Passes(backend, 2)
    found = await together(backend, asked)
    for number, ids in enumerate(expected):
        assert found[number].text == backend.tokenizer.decode(ids, skip_special_tokens=True)
    assert passes.widths.index(2) <= 1


@both_backends
async def test_models_with_state_on_their_modules_run_one_pass_at_a_time(tmp_path: Path) -> None:
    from tests.engine.zoo import LLAMA

    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    backend = await backend_of(
        tmp_path, LLAMA.build(rope_parameters=rope, max_position_embeddings=24)
    )
    backend._encoder.context_tokens = 64
    inside: list[int] = []
    most: list[int] = []
    forward = backend.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        inside.append(1)
        most.append(len(inside))
        try:
            return forward(*args, **kwargs)
        finally:
            inside.pop()

    backend.model.forward = counted
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(backend.generate, "x" * (10 * number + 1))
            tasks.start_soon(backend.score, "hello", ["some words", "others"])
    assert max(most) == 1
