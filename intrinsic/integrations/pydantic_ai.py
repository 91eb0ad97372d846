"""A pydantic-ai model over a system in this process: each request gets its own adapters.

    agent = Agent(IntrinsicModel(system))
    result = await agent.run("...")

What was applied is in the response's `provider_details["intrinsic"]`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from intrinsic.backends import Generation, GenerationOptions
from intrinsic.backends.options import GREEDY
from intrinsic.errors import ConfigError
from intrinsic.extras import how_to_install
from intrinsic.integrations.answering import Answering, Answers, answering
from intrinsic.integrations.question import AUTO, Adapters, Memory, Question, decoding, remembered

try:
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent, TextPart
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
    from pydantic_ai.profiles import ModelProfile
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.usage import RequestUsage
except ImportError as error:
    raise ConfigError("pydantic-ai is not installed; " + how_to_install("pydantic-ai")) from error

from intrinsic.integrations.pydantic_ai_turns import session_of, turns_of

SYSTEM = "intrinsic"
_NAMES = {
    "max_tokens": "max_new_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "stop_sequences": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
}


class IntrinsicModelSettings(ModelSettings, total=False):
    """What a run may set besides pydantic-ai's own settings.

    Without a session, the conversation's id is the session.
    """

    intrinsic_adapters: Adapters
    intrinsic_session: str
    intrinsic_memories: Sequence[Memory]


class IntrinsicModel(Model[None]):
    """Answers with the model behind `answers`, under the adapters that fit each conversation.

    Structured output is asked for in the prompt, where the model cannot call tools; an agent with
    tools is refused.
    """

    unsupported_settings: ClassVar[Any] = frozenset({"timeout", "extra_headers", "extra_body"})

    def __init__(
        self,
        answers: Answers,
        *,
        adapters: Adapters = AUTO,
        options: GenerationOptions = GREEDY,
        settings: ModelSettings | None = None,
    ) -> None:
        profile = ModelProfile(supports_tools=False, default_structured_output_mode="prompted")
        super().__init__(settings=settings, profile=profile)
        self._answers = answers
        self._adapters = adapters
        self._options = options

    @property
    def model_name(self) -> str:
        """The name of the model behind the backend."""
        return self._answers.manager.backend.name

    @property
    def system(self) -> str:
        """Who answers."""
        return SYSTEM

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer a conversation as a whole."""
        question, _ = self._question(messages, model_settings, model_request_parameters)
        async with answering(self._answers, question) as answer:
            generation = await answer.generate()
            return ModelResponse(
                parts=[TextPart(generation.text)],
                usage=_usage(generation),
                model_name=self.model_name,
                provider_name=SYSTEM,
                provider_details={SYSTEM: answer.applied},
                finish_reason=generation.finish_reason,
            )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: Any = None,  # noqa: ANN401
    ) -> AsyncGenerator[StreamedResponse, None]:
        """Answer a conversation piece by piece."""
        question, prepared = self._question(messages, model_settings, model_request_parameters)
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(answering(self._answers, question))
            yield IntrinsicStream(
                model_request_parameters=prepared, _name=self.model_name, _answer=answer
            )

    def _question(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> tuple[Question, ModelRequestParameters]:
        settings, parameters = self.prepare_request(settings, parameters)
        if parameters.function_tools or parameters.output_tools:
            raise UserError(
                "IntrinsicModel cannot call tools; give the agent none, and let structured output "
                "be PromptedOutput"
            )
        given: Mapping[str, Any] = dict(settings or {})
        question = Question(
            turns_of(self.prepare_messages(messages), parameters),
            decoding(self._options, {ours: given.get(name) for name, ours in _NAMES.items()}),
            given.get("intrinsic_adapters", self._adapters),
            given.get("intrinsic_session") or session_of(messages),
            remembered(given.get("intrinsic_memories", ())),
        )
        return question, parameters


@dataclass
class IntrinsicStream(StreamedResponse):
    """An answer that is being made."""

    _name: str
    _answer: Answering
    _timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        async for piece in self._answer.pieces():
            for event in self._parts_manager.handle_text_delta(vendor_part_id=0, content=piece):
                yield event
        generation = self._answer.generation
        if generation is not None:  # it is None where the stream was cancelled
            self._usage = _usage(generation)
            self.finish_reason = generation.finish_reason
        self.provider_details = {SYSTEM: self._answer.applied}

    async def close_stream(self) -> None:
        """End the work with the next token; what was made so far is the answer."""
        self._answer.close()

    @property
    def model_name(self) -> str:
        """The name of the model behind the backend."""
        return self._name

    @property
    def provider_name(self) -> str:
        """Who answers."""
        return SYSTEM

    @property
    def provider_url(self) -> None:
        """Nowhere: this process."""

    @property
    def timestamp(self) -> datetime:
        """When the answer began."""
        return self._timestamp


def _usage(generation: Generation) -> RequestUsage:
    return RequestUsage(input_tokens=generation.prompt_tokens, output_tokens=generation.tokens)
