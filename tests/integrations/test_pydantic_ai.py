"""An agent of pydantic-ai gets routed adapters, without HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, UserError
from pydantic_ai.messages import ModelResponse

from intrinsic.backends import FunctionBackend
from intrinsic.bus import MemoryBus
from intrinsic.errors import ConfigError
from intrinsic.integrations.answering import Wired
from intrinsic.integrations.pydantic_ai import IntrinsicModel, IntrinsicModelSettings
from intrinsic.manager import AdapterManager
from intrinsic.mixture import BASE, Mixture
from intrinsic.registry import AdapterRegistry
from tests.integrations.given import PROMPT_TOKENS, WORDS, given

ANSWER = "".join(WORDS)
A = Mixture.of({"a@1": 1.0})


async def test_an_agent_is_answered_under_what_fits(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        agent = Agent(IntrinsicModel(system), instructions="be brief")
        result = await agent.run("a question on a")
        assert result.output == ANSWER
        assert system.turns == [("system", "be brief"), ("user", "a question on a")]
        assert system.backend.asked[-1][1] == A
        response = result.all_messages()[-1]
        assert isinstance(response, ModelResponse)
        assert response.provider_details is not None
        assert response.provider_details["intrinsic"]["mixture"] == {"a@1": 1.0}
        assert (response.model_name, response.finish_reason) == ("fake", "stop")
        assert (result.usage.input_tokens, result.usage.output_tokens) == (
            PROMPT_TOKENS,
            len(WORDS),
        )


async def test_what_was_said_before_is_part_of_the_conversation_and_of_its_session(
    tmp_path: Path,
) -> None:
    async with given(tmp_path) as system:
        agent = Agent(IntrinsicModel(system), system_prompt="be kind")
        first = await agent.run("one on a")
        second = await agent.run(["two", "on b"], message_history=first.all_messages())
        assert system.turns == [
            ("system", "be kind"),
            ("user", "one on a"),
            ("assistant", ANSWER),
            ("user", "two\n\non b"),
        ]
        assert second.output == ANSWER
        before, after = (context.session_id for context in system.router.contexts)
        assert before is not None
        assert before == after
        await agent.run("three", model_settings=IntrinsicModelSettings(intrinsic_session="mine"))
        assert system.router.contexts[-1].session_id == "mine"


async def test_settings_reach_the_decoding_and_name_adapters(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        agent = Agent(IntrinsicModel(system, settings={"seed": 3}))
        await agent.run(
            "a",
            model_settings=IntrinsicModelSettings(
                max_tokens=9,
                temperature=0.5,
                top_p=0.9,
                top_k=4,
                stop_sequences=["x"],
                presence_penalty=0.1,
                frequency_penalty=0.2,
                logit_bias={"7": 1},
                intrinsic_adapters="b",
            ),
        )
        options = system.options
        assert (options.max_new_tokens, options.temperature, options.top_p) == (9, 0.5, 0.9)
        assert (options.top_k, options.seed, options.stop) == (4, 3, ("x",))
        assert (options.presence_penalty, options.frequency_penalty) == (0.1, 0.2)
        assert options.logit_bias == {7: 1}
        assert system.backend.asked[-1][1] == Mixture.of({"b@1": 1.0})
        await Agent(IntrinsicModel(system, adapters="base")).run("a")
        assert system.backend.asked[-1][1] == BASE
        with pytest.raises(ConfigError, match="temperature"):
            await agent.run("a", model_settings={"temperature": -1.0})


async def test_memories_are_routed_by(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        settings = IntrinsicModelSettings(intrinsic_memories=["likes c"])
        await Agent(IntrinsicModel(system)).run("a", model_settings=settings)
        assert set(system.backend.asked[-1][1].adapters) == {"a@1", "c@1"}


async def test_a_stream_is_one(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        system.backend.held = True
        agent = Agent(IntrinsicModel(system))
        found = []
        async with agent.run_stream("a") as result:
            async for text in result.stream_text(delta=True, debounce_by=None):
                found.append(text)
                system.backend.read.set()
        assert "".join(found) == ANSWER
        assert len(found) == len(WORDS)
        response = result.all_messages()[-1]
        assert isinstance(response, ModelResponse)
        assert response.provider_details is not None
        assert response.provider_details["intrinsic"]["mixture"] == {"a@1": 1.0}
        assert result.usage.output_tokens == len(WORDS)
        assert system.manager.get_stats()["leases"] == 0


async def test_a_stream_that_is_left_frees_its_row(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        system.backend.held = True
        async with Agent(IntrinsicModel(system)).run_stream("a") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                break
            await result.cancel()
            system.backend.read.set()
        assert system.backend.ended == [False]
        assert system.manager.get_stats()["leases"] == 0


class City(BaseModel):
    name: str
    people: int


async def test_structured_output_is_asked_for_in_the_prompt() -> None:
    asked: list[Any] = []

    async def answer(prompt: Any) -> str:
        asked.append(prompt)
        return '{"name": "Paris", "people": 2000000}'

    async with MemoryBus() as bus:
        manager = AdapterManager(FunctionBackend(answer), AdapterRegistry())
        agent = Agent(IntrinsicModel(Wired(bus, manager)), output_type=City)
        result = await agent.run("which city?")
    assert result.output == City(name="Paris", people=2000000)
    assert asked[-1][0]["role"] == "system"
    assert "people" in asked[-1][0]["content"]


async def test_what_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        agent = Agent(IntrinsicModel(system))
        with pytest.raises(UserError, match="reads text alone"):
            await agent.run(["look", BinaryContent(b"x", media_type="image/png")])

        @agent.tool_plain
        def clock() -> str:
            return "noon"

        with pytest.raises(UserError, match="cannot call tools"):
            await agent.run("what time is it?")
        assert not system.backend.asked
