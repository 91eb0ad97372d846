"""Answers in pieces with counts, and the log-probabilities of their tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import pytest
import torch

from intrinsic import base_path
from intrinsic.backends import (
    FunctionBackend,
    Generation,
    GenerationOptions,
    ModelBackend,
    Piece,
    Prompt,
    RawPrompt,
)
from intrinsic.backends.older import pieces_of
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.errors import BackendError, CapabilityError
from intrinsic.mixture import BASE, Mixture
from tests.bus.backends import both_backends
from tests.tiny import llama, tokenizer

TOLD = GenerationOptions(max_new_tokens=16, logprobs=3)
SPECIAL = GenerationOptions(max_new_tokens=3, logprobs=3, logit_bias={1: 100.0})


@pytest.fixture(params=["batch", "alone"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TransformersBackend:
    if request.param == "alone":
        monkeypatch.setattr(
            "intrinsic.backends.transformers_backend.can_batch", lambda model: False
        )
    return TransformersBackend(llama(), tokenizer())


@pytest.fixture(scope="module")
def bundled() -> TransformersBackend:
    """With byte-level tokens, so that characters are cut in pieces."""
    return TransformersBackend.from_pretrained(base_path())


async def all_of(
    backend: ModelBackend, prompt: Prompt, options: GenerationOptions
) -> tuple[list[Piece], Generation]:
    found = [piece async for piece in pieces_of(backend, prompt, BASE, options)]
    *pieces, whole = found
    assert isinstance(whole, Generation)
    assert all(isinstance(piece, Piece) for piece in pieces)
    return cast(list[Piece], pieces), whole


@both_backends
async def test_the_pieces_are_the_answer_and_it_comes_last(model: TransformersBackend) -> None:
    options = GenerationOptions(max_new_tokens=16)
    pieces, whole = await all_of(model, "hello", options)
    expected = await model.generate("hello", options=options)
    assert "".join(piece.text for piece in pieces) == whole.text == expected.text
    assert (whole.tokens, whole.finish_reason) == (expected.tokens, expected.finish_reason)
    assert sum(piece.tokens for piece in pieces) == whole.tokens
    assert whole.prompt_tokens == 5
    assert whole.logprobs == ()
    assert [piece async for piece in model.stream("hello", options=options)] == [
        piece.text for piece in pieces
    ]


def names(backend: TransformersBackend, ids: list[int]) -> list[str]:
    return [str(backend.tokenizer.convert_ids_to_tokens(token)) for token in ids]


def reference(backend: TransformersBackend, prompt: str, ids: list[int]) -> list[torch.Tensor]:
    """Slow reference: log-probabilities at each place, by a pass over all ids."""
    asked = list(backend.tokenizer(prompt)["input_ids"])
    with torch.no_grad():
        logits = backend.model(input_ids=torch.tensor([[*asked, *ids]])).logits[0]
    return list(logits[len(asked) - 1 : -1].log_softmax(-1))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.7, "seed": 1, "top_k": 5},
        {"frequency_penalty": 2.0, "repetition_penalty": 1.5, "logit_bias": {40: 2.0}},
    ],
)
@both_backends
async def test_log_probabilities_are_those_of_the_raw_model(
    model: TransformersBackend, changes: dict[str, Any]
) -> None:
    bias = {0: -100.0, 1: -100.0, 2: -100.0, **changes.get("logit_bias", {})}
    asked = {"max_new_tokens": 16, "logprobs": 3, **changes, "logit_bias": bias}
    options = GenerationOptions(**asked)
    pieces, whole = await all_of(model, "hello", options)
    told = whole.logprobs
    assert not {0, 1, 2} & {one.token_id for one in told}
    rows = reference(model, "hello", [one.token_id for one in told])
    assert len(told) == whole.tokens == len(rows)
    for one, row in zip(told, rows, strict=True):
        assert one.logprob == pytest.approx(float(row[one.token_id]), abs=1e-4)
        best = row.topk(3)
        assert [top.token_id for top in one.top] == best.indices.tolist()
        assert [top.logprob for top in one.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert [top.token for top in one.top] == names(model, best.indices.tolist())
    assert tuple(one for piece in pieces for one in piece.logprobs) == told
    for piece in pieces:
        assert "".join(one.token for one in piece.logprobs) == piece.text


@both_backends
async def test_asking_for_them_changes_no_token(model: TransformersBackend) -> None:
    for changes in ({}, {"temperature": 1.3, "seed": 5}):
        plain = GenerationOptions(max_new_tokens=16, **changes)  # type: ignore[arg-type]
        told = GenerationOptions(max_new_tokens=16, logprobs=0, **changes)  # type: ignore[arg-type]
        with_them = await model.generate("hello", options=told)
        assert with_them.text == (await model.generate("hello", options=plain)).text
        assert all(one.top == () for one in with_them.logprobs)


@both_backends
async def test_neither_an_end_mark_nor_a_stop_string_is_told(model: TransformersBackend) -> None:
    whole = await model.generate("hello", options=TOLD)
    stop = whole.text[4:6]
    cut = whole.text.index(stop)
    options = GenerationOptions(max_new_tokens=16, logprobs=3, stop=(stop,))
    pieces, stopped = await all_of(model, "hello", options)
    assert stopped.text == whole.text[:cut]
    assert [one.token for one in stopped.logprobs] == [*whole.text[:cut]]
    assert all(piece.text for piece in pieces)
    assert (await model.generate("hello", options=SPECIAL)).logprobs == ()
    model.model.generation_config.eos_token_id = whole.logprobs[4].token_id
    ended = await model.generate("hello", options=TOLD)
    assert ended.finish_reason == "stop"
    assert len(ended.logprobs) == ended.tokens - 1 == len(ended.text)


@both_backends
async def test_a_text_that_ends_within_a_token_has_that_token(
    bundled: TransformersBackend,
) -> None:
    options = GenerationOptions(max_new_tokens=24, logprobs=0, repetition_penalty=1.3)
    whole = await bundled.generate("What is asthma?", options=options)
    number = next(n for n, one in enumerate(whole.logprobs) if len(one.token) > 3 and n > 2)
    stop = whole.logprobs[number].token[2:]
    options = GenerationOptions(max_new_tokens=24, logprobs=0, repetition_penalty=1.3, stop=(stop,))
    cut = await bundled.generate("What is asthma?", options=options)
    told = "".join(one.token for one in cut.logprobs)
    assert told.startswith(cut.text)
    assert len(told) - len(cut.text) < len(cut.logprobs[-1].token)


@both_backends
async def test_characters_that_are_cut_go_together(bundled: TransformersBackend) -> None:
    text = "naïve 🙂 café ▁漢"
    ids = list(bundled.tokenizer(text, add_special_tokens=False)["input_ids"])
    forced = _Forced(ids)
    options = GenerationOptions(max_new_tokens=len(ids), logprobs=2, repetition_penalty=1.0)
    prompt = RawPrompt("x")
    hook = bundled.model.register_forward_hook(forced)
    try:
        pieces, whole = await all_of(bundled, prompt, options)
    finally:
        hook.remove()
        forced.ids = []
    assert whole.text == text
    assert [one.token_id for one in whole.logprobs] == ids
    assert bytes(b for one in whole.logprobs for b in one.bytes) == text.encode()
    for piece in pieces:
        assert bytes(b for one in piece.logprobs for b in one.bytes).decode() == piece.text
        assert len(piece.logprobs) == piece.tokens
    split = [one for one in whole.logprobs if len(one.bytes) == 1 and one.bytes[0] > 0x7F]
    assert split
    assert all(one.token == "\N{REPLACEMENT CHARACTER}" for one in split)


class _Forced:
    """A forward hook that makes the model say given ids."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.at = 0

    def __call__(self, module: object, inputs: object, output: Any) -> Any:
        if self.ids:
            output.logits[:] = 0.0
            output.logits[..., self.ids[min(self.at, len(self.ids) - 1)]] = 9.0
            self.at += 1
        return output


@both_backends
async def test_a_prompt_may_be_raw(model: TransformersBackend) -> None:
    framed = TransformersBackend(llama(), tokenizer(chat=True))
    ids = tuple(model.tokenizer("hello")["input_ids"])
    plain = await model.generate("hello", options=TOLD)
    for prompt in (RawPrompt("hello"), RawPrompt(ids=ids)):
        for one in (model, framed):
            assert one.count_tokens(prompt) == 5
            assert (await one.generate(prompt, options=TOLD)).text == plain.text
            assert await one.score(prompt, ["x"]) == await model.score("hello", ["x"])
    assert framed.count_tokens("hello") > 5
    assert (await framed.generate("hello", options=TOLD)).prompt_tokens > 5
    assert (await model.generate(RawPrompt(" "), options=TOLD)).prompt_tokens == 1
    for empty in (RawPrompt(""), RawPrompt(ids=())):
        with pytest.raises(BackendError, match="the prompt is empty"):
            await model.generate(empty)
    with pytest.raises(BackendError, match="has token 97, and the model's are 0 to 96"):
        await model.generate(RawPrompt(ids=(3, 97)))
    with pytest.raises(BackendError, match="not valid Unicode"):
        await model.generate(RawPrompt("half \ud800"))


@both_backends
async def test_leaving_early_ends_the_work(model: TransformersBackend) -> None:
    long = GenerationOptions(max_new_tokens=50)
    async with aclosing(model.pieces("hello", options=long)) as pieces:
        async for piece in pieces:
            assert isinstance(piece, Piece)
            break
    assert not vars(model._runner)["_waiting"]
    assert (await model.generate("hello", options=long)).text


@both_backends
async def test_a_backend_without_pieces_is_served_from_its_stream() -> None:
    class Older:
        """Written before `pieces` was."""

        closed = False

        async def stream(
            self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions
        ) -> AsyncGenerator[str, None]:
            try:
                for word in ("one ", "two ", "three"):
                    yield word
            finally:
                self.closed = True

    older = Older()
    backend = cast(ModelBackend, older)
    pieces, whole = await all_of(backend, "x", GenerationOptions())
    assert [piece.text for piece in pieces] == ["one ", "two ", "three"]
    assert (whole.text, whole.tokens, whole.finish_reason) == ("one two three", 3, "stop")
    _, full = await all_of(backend, "x", GenerationOptions(max_new_tokens=3))
    assert full.finish_reason == "length"
    older.closed = False
    async with aclosing(pieces_of(backend, "x", BASE, GenerationOptions())) as early:
        async for _ in early:
            break
    assert older.closed


@both_backends
async def test_a_function_gives_one_piece_and_says_what_it_cannot() -> None:
    async def echo(prompt: object) -> str:
        return f"you said {prompt}"

    backend = FunctionBackend(echo, name="echo")
    pieces, whole = await all_of(backend, RawPrompt("hi"), GenerationOptions())
    assert pieces == [Piece("you said hi", 3)]
    assert (whole.text, whole.tokens) == ("you said hi", 3)
    with pytest.raises(CapabilityError, match="cannot read token ids"):
        await all_of(backend, RawPrompt(ids=(3,)), GenerationOptions())
    with pytest.raises(CapabilityError, match="cannot tell log-probabilities"):
        await backend.generate("x", options=TOLD)
