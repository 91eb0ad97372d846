"""A question is routed, answered under its mixture, and accounted for."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from intrinsic.backends import GenerationOptions
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.bus import MemoryBus
from intrinsic.errors import AdapterNotFoundError, ConfigError
from intrinsic.events import MemoryVector
from intrinsic.integrations.answering import Wired, answering
from intrinsic.integrations.question import Question, decoding, remembered
from intrinsic.manager import AdapterManager
from intrinsic.mixture import BASE, Mixture
from intrinsic.registry import AdapterRegistry
from tests.backends.batching import idle
from tests.bus.backends import both_backends
from tests.integrations.given import PROMPT_TOKENS, WORDS, given
from tests.tiny import llama, tokenizer, write_adapter


def asking(text: str, **others: Any) -> Question:
    return Question(({"role": "user", "content": text},), **others)


@both_backends
async def test_what_fits_is_applied_and_told(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        async with answering(system, asking("a b", session_id="s")) as answer:
            generation = await answer.generate()
        (_, mixture, _), context = system.backend.asked[-1], system.router.contexts[-1]
        assert mixture == Mixture.of({"a@1": 1.0, "b@1": 1.0})
        assert context.session_id == "s"
        applied = answer.applied
        assert applied["mixture"] == dict(mixture.entries)
        assert [one["confidence"] for one in applied["selections"]] == [0.9, 0.9]
        assert (applied["skipped"], applied["shadow"]) == ([], False)
        assert applied["times"]["generate_ms"] == generation.generate_ms
        assert applied["times"].keys() == {"route_ms", "load_ms", "generate_ms", "total_ms"}


@both_backends
async def test_pieces_come_one_by_one_and_the_whole_at_the_end(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        system.backend.held = True
        async with answering(system, asking("a")) as answer:
            found = []
            async for piece in answer.pieces():
                assert answer.generation is None
                found.append(piece)
                system.backend.read.set()
        assert tuple(found) == WORDS
        assert answer.generation is not None
        assert answer.generation.prompt_tokens == PROMPT_TOKENS
        assert answer.applied["times"]["first_token_ms"] >= 0.0


@both_backends
async def test_adapters_can_be_named(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        await system.manager.set_active({"c": 0.5})
        expected: dict[Any, Mixture] = {
            "b": Mixture.of({"b@1": 1.0}),
            "base": BASE,
            None: Mixture.of({"c@1": 0.5}),
        }
        for adapters, mixture in expected.items():
            async with answering(system, asking("a", adapters=adapters)) as answer:
                await answer.generate()
            assert system.backend.asked[-1][1] == mixture
            assert answer.applied["mixture"] == dict(mixture.entries)
        async with answering(system, asking("a", adapters={"a": 0.7, "b": -0.3})) as answer:
            assert answer.applied["mixture"] == {"a@1": 0.7, "b@1": -0.3}
        assert not system.router.contexts
        with pytest.raises(AdapterNotFoundError, match="nowhere"):
            async with answering(system, asking("a", adapters="nowhere")):
                pass


@both_backends
async def test_memories_are_routed_by_and_are_no_part_of_the_prompt(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        memories = remembered(["about b", MemoryVector("m", "about c", relevance_score=0.1)])
        async with answering(system, asking("hello", memories=memories)) as answer:
            await answer.generate()
        assert set(answer.applied["mixture"]) == {"b@1", "c@1"}
        assert system.turns == [("user", "hello")]
        texts = [memory.source_text for memory in system.router.contexts[-1].memories]
        assert texts == ["hello", "about b", "about c"]


@both_backends
async def test_a_router_that_fails_costs_the_adapters_and_not_the_answer(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        async with answering(system, asking("fail a")) as answer:
            assert (await answer.generate()).text == "".join(WORDS)
        assert answer.applied["mixture"] == {}
        assert [one["what"] for one in answer.applied["skipped"]] == ["router"]
        system.bus.suspend("by hand")
        async with answering(system, asking("a")) as answer:
            await answer.generate()
        assert answer.applied["mixture"] == {}


@both_backends
async def test_what_is_active_is_not_what_was_routed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise OSError("no disk")

    async with given(tmp_path) as system:
        await system.manager.set_active({"b": 1.0})
        with monkeypatch.context() as patched:
            patched.setattr(system.manager, "apply", broken)
            async with answering(system, asking("a")) as answer:
                await answer.generate()
        assert answer.applied["mixture"] == {}
        [skipped] = answer.applied["skipped"]
        assert (skipped["what"], "no disk" in skipped["why"]) == ("router", True)
        system.bus.suspend("by hand")
        async with answering(system, asking("a")) as answer:
            await answer.generate()
        assert answer.applied["mixture"] == {}
        assert answer.applied["skipped"] == [{"what": "bus", "why": "suspended: by hand"}]


@both_backends
async def test_nothing_is_left_of_an_answer_that_was_cancelled(tmp_path: Path) -> None:
    model = llama()
    model.generation_config.eos_token_id = None
    backend = TransformersBackend(model, tokenizer(chat=True))
    registry = AdapterRegistry()
    registry.register_adapter(write_adapter(tmp_path / "a", model), name="a")
    question = asking("hello", adapters="a", options=GenerationOptions(max_new_tokens=40))
    async with MemoryBus() as bus:
        system = Wired(bus, AdapterManager(backend, registry))
        with anyio.CancelScope() as scope:
            async with (
                answering(system, question) as answer,
                aclosing(answer.pieces()) as pieces,
            ):
                async for _ in pieces:
                    scope.cancel()
        assert scope.cancelled_caught
        assert idle(backend)
        assert system.manager.get_stats()["leases"] == 0
        async with answering(system, question) as answer:  # and the next is answered in full
            streamed = [piece async for piece in answer.pieces()]
        async with answering(system, question) as answer:
            assert (await answer.generate()).text == "".join(streamed)


@both_backends
async def test_a_closed_answer_ends_with_the_next_piece(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        async with answering(system, asking("a")) as answer:
            found = []
            async for piece in answer.pieces():
                found.append(piece)
                answer.close()
        assert tuple(found) == WORDS[:1]
        assert answer.generation is None
        assert system.backend.ended == [False]
        assert system.manager.get_stats()["leases"] == 0


def test_settings_are_checked_and_none_asks_for_nothing() -> None:
    options = GenerationOptions(max_new_tokens=5, seed=1)
    asked = {"seed": None, "temperature": 0.5, "stop": ["x"], "logit_bias": {"3": 4}}
    found = decoding(options, asked)
    assert (found.max_new_tokens, found.seed, found.temperature) == (5, 1, 0.5)
    assert (found.stop, found.logit_bias) == (("x",), {3: 4})
    with pytest.raises(ConfigError, match="top_p"):
        decoding(options, {"top_p": 2.0})
    with pytest.raises(ConfigError, match="unknown setting 'tools'"):
        decoding(options, {"tools": []})
    with pytest.raises(ConfigError, match="empty"):
        Question(())
    with pytest.raises(ConfigError, match="pass a list"):
        remembered("one text")
