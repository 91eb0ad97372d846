"""A model without weights: it answers, and says what it cannot do."""

from __future__ import annotations

import pytest

from intrinsic.backends import FunctionBackend, ModelBackend
from intrinsic.backends.prompt import Question
from intrinsic.errors import CapabilityError
from intrinsic.mixture import Mixture
from tests.bus.backends import both_backends


async def echo(prompt: Question) -> str:
    return f"you said {prompt if isinstance(prompt, str) else prompt[-1]['content']}"


@both_backends
async def test_it_generates_and_streams() -> None:
    backend = FunctionBackend(echo, name="echo")
    assert isinstance(backend, ModelBackend)
    generation = await backend.generate("hi there")
    assert (generation.text, generation.tokens) == ("you said hi there", 4)
    assert generation.prompt_tokens == 2
    turns = await backend.generate([{"role": "user", "content": "hi"}])
    assert turns.text == "you said hi"
    assert [piece async for piece in backend.stream("hi")] == ["you said hi"]
    assert backend.supports("generate")
    assert not backend.supports("lora")


@both_backends
async def test_what_needs_weights_is_refused_in_words() -> None:
    backend = FunctionBackend(echo, name="echo")
    mixture = Mixture.of({"a": 1.0})
    await backend.restore()
    for call in (
        backend.generate("x", mixture=mixture),
        backend.load_lora_adapter("path", "a"),
        backend.unload_lora_adapter("a"),
        backend.merge(mixture),
        backend.fingerprint(),
        backend.score("x", ["y"]),
    ):
        with pytest.raises(CapabilityError, match="backend 'echo' cannot"):
            await call
