"""A LangChain chat model over a system in this process: each call gets its own adapters.

    model = ChatIntrinsic(answers=system)
    message = await model.ainvoke("...")

What was applied is in the message's `response_metadata["intrinsic"]`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import current_token

from intrinsic.backends import Generation, GenerationOptions
from intrinsic.backends.options import GREEDY
from intrinsic.errors import ConfigError
from intrinsic.extras import how_to_install
from intrinsic.integrations.answering import answering
from intrinsic.integrations.calling import Loop
from intrinsic.integrations.question import AUTO, Adapters, Question, decoding, remembered

try:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.messages.ai import UsageMetadata
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
    from pydantic import ConfigDict, Field
except ImportError as error:
    raise ConfigError("langchain-core is not installed; " + how_to_install("langchain")) from error

from intrinsic.integrations.langchain_turns import session_of, turns_of

if TYPE_CHECKING:
    from intrinsic.config import Settings

_OURS = {"max_tokens": "max_new_tokens"}
_CONTROL = frozenset({"stream"})


class ChatIntrinsic(BaseChatModel):
    """Answers with the model behind `answers`, under the adapters that fit each conversation.

    A call takes, by name, the fields of `GenerationOptions` (`max_tokens` for `max_new_tokens`),
    `adapters`, `session_id` and `memories`. Without a session, the thread of the run's config is
    the session. Plain calls (`invoke`, `stream`) work from any thread but the event loop's own,
    which is the one that runs where the model is made, or `loop`. Tools are refused.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    answers: Any = Field(exclude=True)
    """An opened `System`, or a bus and a manager that are `Wired`."""
    adapters: Any = AUTO
    options: GenerationOptions = GREEDY
    loop: Loop | None = Field(default_factory=Loop.running, exclude=True)

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings | None = None, **fields: Any) -> Iterator[ChatIntrinsic]:  # noqa: ANN401
        """For programs without an event loop: open a system in a thread, and close it again."""
        from intrinsic.config import load_settings
        from intrinsic.system import open_system

        with start_blocking_portal() as portal:
            opening = open_system(settings or load_settings())
            with portal.wrap_async_context_manager(opening) as system:
                yield cls(answers=system, loop=Loop(portal.call(current_token)), **fields)

    @property
    def _llm_type(self) -> str:
        return "intrinsic"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self._model, "adapters": self.adapters, "options": self.options}

    @property
    def _model(self) -> str:
        return str(self.answers.manager.backend.name)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> ChatResult:
        return self._loop.call(lambda: self._agenerate(messages, stop, run_manager, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> ChatResult:
        question = self._question(messages, stop, run_manager, kwargs)
        async with answering(self.answers, question) as answer:
            generation = await answer.generate()
            message = AIMessage(
                generation.text,
                usage_metadata=_usage(generation),
                response_metadata=self._metadata(generation, answer.applied),
            )
            return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Iterator[ChatGenerationChunk]:
        question = self._question(messages, stop, run_manager, kwargs)
        yield from self._loop.iterate(lambda: self._chunks(question))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> AsyncIterator[ChatGenerationChunk]:
        question = self._question(messages, stop, run_manager, kwargs)
        async with aclosing(self._chunks(question)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _chunks(self, question: Question) -> AsyncGenerator[ChatGenerationChunk, None]:
        async with (
            answering(self.answers, question) as answer,
            aclosing(answer.pieces()) as pieces,
        ):
            async for piece in pieces:
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
            assert answer.generation is not None
            yield ChatGenerationChunk(
                message=AIMessageChunk(
                    content="",
                    usage_metadata=_usage(answer.generation),
                    response_metadata=self._metadata(answer.generation, answer.applied),
                    chunk_position="last",
                )
            )

    @property
    def _loop(self) -> Loop:
        if self.loop is None:
            raise ConfigError(
                "a plain call needs the event loop that the system was opened on; make the model "
                "there, or use ChatIntrinsic.opened()"
            )
        return self.loop

    def _question(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        run_manager: Any,  # noqa: ANN401
        asked: dict[str, Any],
    ) -> Question:
        asked = {_OURS.get(name, name): value for name, value in asked.items()}
        adapters: Adapters = asked.pop("adapters", self.adapters)
        session = asked.pop("session_id", None) or session_of(run_manager)
        memories = remembered(asked.pop("memories", ()))
        for name in _CONTROL:
            asked.pop(name, None)
        options = decoding(self.options, {"stop": stop, **asked})
        return Question(turns_of(messages), options, adapters, session, memories)

    def _metadata(self, generation: Generation, applied: dict[str, Any]) -> dict[str, Any]:
        return {
            "model_name": self._model,
            "finish_reason": generation.finish_reason,
            "intrinsic": applied,
        }


def _usage(generation: Generation) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=generation.prompt_tokens,
        output_tokens=generation.tokens,
        total_tokens=generation.prompt_tokens + generation.tokens,
    )
