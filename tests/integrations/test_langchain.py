"""A chain or graph of LangChain gets routed adapters, without HTTP, plain calls included."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from intrinsic.config import load_settings
from intrinsic.errors import BackendError, ConfigError
from intrinsic.integrations.langchain import ChatIntrinsic
from intrinsic.mixture import BASE, Mixture
from tests.integrations.given import PROMPT_TOKENS, WORDS, given

ANSWER = "".join(WORDS)


async def test_a_call_is_answered_under_what_fits(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        message = await ChatIntrinsic(answers=system).ainvoke("a question on a")
        assert message.content == ANSWER
        assert system.backend.asked[-1][1] == Mixture.of({"a@1": 1.0})
        metadata = message.response_metadata
        assert metadata["intrinsic"]["mixture"] == {"a@1": 1.0}
        assert (metadata["model_name"], metadata["finish_reason"]) == ("fake", "stop")
        assert message.usage_metadata == {
            "input_tokens": PROMPT_TOKENS,
            "output_tokens": len(WORDS),
            "total_tokens": PROMPT_TOKENS + len(WORDS),
        }


async def test_messages_become_turns(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        model = ChatIntrinsic(answers=system)
        said: list[BaseMessage] = [
            SystemMessage("be brief"),
            HumanMessage([{"type": "text", "text": "on "}, "a"]),
            AIMessage("yes?"),
            ChatMessage(content="more", role="critic"),
        ]
        await model.ainvoke(said)
        expected = [
            ("system", "be brief"),
            ("user", "on a"),
            ("assistant", "yes?"),
            ("critic", "more"),
        ]
        assert system.turns == expected
        image = HumanMessage([{"type": "image_url", "image_url": {"url": "data:"}}])
        for refused in (ToolMessage("noon", tool_call_id="1"), image):
            with pytest.raises(BackendError, match="reads text alone"):
                await model.ainvoke([refused])
        with pytest.raises(NotImplementedError):
            model.bind_tools([])


async def test_settings_reach_the_decoding_and_name_adapters(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        model = ChatIntrinsic(answers=system, adapters="b")
        await model.bind(max_tokens=9, temperature=0.5, seed=2).ainvoke("a", stop=["x"])
        options = system.options
        assert (options.max_new_tokens, options.temperature, options.seed) == (9, 0.5, 2)
        assert options.stop == ("x",)
        assert system.backend.asked[-1][1] == Mixture.of({"b@1": 1.0})
        await model.ainvoke("a", adapters="base")
        assert system.backend.asked[-1][1] == BASE
        await model.ainvoke("a", adapters="auto", memories=["likes c"])
        assert set(system.backend.asked[-1][1].adapters) == {"a@1", "c@1"}
        with pytest.raises(ConfigError, match="unknown setting 'tools'"):
            await model.ainvoke("a", tools=[])


async def test_a_stream_is_one(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        system.backend.held = True
        whole: Any = None
        pieces = 0
        async for chunk in ChatIntrinsic(answers=system).astream("a"):
            system.backend.read.set()
            assert isinstance(chunk, AIMessageChunk)
            whole = chunk if whole is None else whole + chunk
            pieces += bool(chunk.content)
        assert (whole.content, pieces) == (ANSWER, len(WORDS))
        assert whole.response_metadata["intrinsic"]["mixture"] == {"a@1": 1.0}
        assert whole.usage_metadata["output_tokens"] == len(WORDS)
        assert system.manager.get_stats()["leases"] == 0


async def test_plain_calls_work_from_other_threads_and_are_refused_on_the_loops_own(
    tmp_path: Path,
) -> None:
    async with given(tmp_path) as system:
        model = ChatIntrinsic(answers=system)
        message = await anyio.to_thread.run_sync(model.invoke, "a")
        assert message.content == ANSWER
        system.backend.held = True

        def stream() -> list[str]:
            found = []
            for chunk in model.stream("a"):
                found.append(str(chunk.content))
                model._loop.call(release)
            return found

        async def release() -> None:
            system.backend.read.set()

        assert "".join(await anyio.to_thread.run_sync(stream)) == ANSWER
        for call in (model.invoke, lambda text: list(model.stream(text))):
            with pytest.raises(ConfigError, match="ainvoke"):
                call("a")
        nowhere = ChatIntrinsic(answers=system, loop=None)
        with pytest.raises(ConfigError, match="opened"):
            await anyio.to_thread.run_sync(nowhere.invoke, "a")


async def test_a_plain_stream_that_is_left_ends_the_work(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        system.backend.held = True
        before = threading.active_count()

        def leave() -> int:
            stream = ChatIntrinsic(answers=system, loop=model.loop).stream("a")
            next(stream)
            stream.close()  # type: ignore[attr-defined]
            return threading.active_count()

        model = ChatIntrinsic(answers=system)
        assert await anyio.to_thread.run_sync(leave) <= before + 1
        assert system.backend.ended == [False]
        assert system.manager.get_stats()["leases"] == 0


async def test_a_chain_and_a_graph_of_it_work_and_a_thread_is_a_session(tmp_path: Path) -> None:
    async with given(tmp_path) as system:
        model = ChatIntrinsic(answers=system)
        prompt = ChatPromptTemplate.from_messages([("system", "on {what}"), ("user", "say a")])
        assert await (prompt | model | StrOutputParser()).ainvoke({"what": "letters"}) == ANSWER
        assert system.turns == [("system", "on letters"), ("user", "say a")]

        async def talk(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await model.ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState).add_node("talk", talk).add_edge(START, "talk")
        app = graph.compile(checkpointer=InMemorySaver())
        for text in ("on a", "on b"):
            await app.ainvoke(
                {"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": "t-1"}}
            )
        assert [content for _, content in system.turns] == ["on a", ANSWER, "on b"]
        assert [context.session_id for context in system.router.contexts[-2:]] == ["t-1", "t-1"]


def test_a_program_without_an_event_loop_has_one_opened_for_it() -> None:
    settings = load_settings()
    with ChatIntrinsic.opened(settings) as model:
        message = model.bind(max_tokens=8).invoke("What is the treatment for high blood pressure?")
        pieces = [chunk.content for chunk in model.bind(max_tokens=8).stream("What is a contract?")]
    assert message.content
    assert message.response_metadata["intrinsic"]["selections"][0]["adapter"]
    assert len(pieces) > 2
