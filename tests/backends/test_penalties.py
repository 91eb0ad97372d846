"""Biases, penalties by count and the least share: against a loop that does each by hand."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest
import torch

from intrinsic.backends import Generation, GenerationOptions, RawPrompt
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.errors import BackendError
from tests.bus.backends import both_backends
from tests.tiny import llama, tokenizer

ASKED = (7, 9, 9, 30)


def by_hand(backend: TransformersBackend, options: GenerationOptions) -> list[int]:
    """Slow reference, greedy: a pass over everything for each token."""
    ids = list(ASKED)
    while len(ids) - len(ASKED) < options.max_new_tokens:
        with torch.no_grad():
            logits = backend.model(input_ids=torch.tensor([ids])).logits[0, -1]
        for token, count in Counter(ids[len(ASKED) :]).items():
            logits[token] -= count * options.frequency_penalty + options.presence_penalty
        for token, bias in options.logit_bias.items():
            logits[token] += bias
        ids.append(int(logits.argmax()))
        if ids[-1] == backend.tokenizer.eos_token_id:
            break
    return ids[len(ASKED) :]


def text_of(backend: TransformersBackend, ids: list[int]) -> str:
    return str(backend.tokenizer.decode(ids, skip_special_tokens=True))


@pytest.fixture(params=["batch", "alone"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TransformersBackend:
    if request.param == "alone":
        monkeypatch.setattr(
            "intrinsic.backends.transformers_backend.can_batch", lambda model: False
        )
    return TransformersBackend(llama(), tokenizer())


async def answer(backend: TransformersBackend, options: GenerationOptions) -> Generation:
    return await backend.generate(RawPrompt(ids=ASKED), options=options)


@pytest.mark.parametrize(
    "options",
    [
        GenerationOptions(max_new_tokens=20, frequency_penalty=0.02),
        GenerationOptions(max_new_tokens=20, frequency_penalty=2.0),
        GenerationOptions(max_new_tokens=20, presence_penalty=2.0),
        GenerationOptions(max_new_tokens=20, frequency_penalty=-2.0, presence_penalty=-2.0),
        GenerationOptions(max_new_tokens=20, logit_bias={40: 0.05, 41: -0.05, 9: 0.02}),
        GenerationOptions(max_new_tokens=20, logit_bias={40: 100.0}, frequency_penalty=0.5),
    ],
)
@both_backends
async def test_greedy_text_is_that_of_the_slow_way(
    model: TransformersBackend, options: GenerationOptions
) -> None:
    found = await answer(model, options)
    expected = by_hand(model, options)
    assert found.text == text_of(model, expected)
    assert found.tokens == len(expected)


@both_backends
async def test_each_of_them_matters(model: TransformersBackend) -> None:
    plain = (await answer(model, GenerationOptions(max_new_tokens=20))).text
    for options in (
        GenerationOptions(max_new_tokens=20, frequency_penalty=2.0),
        GenerationOptions(max_new_tokens=20, presence_penalty=2.0),
        GenerationOptions(max_new_tokens=20, logit_bias={40: 100.0}),
    ):
        assert (await answer(model, options)).text != plain
    assert set((await answer(model, options)).text) == {chr(29 + 40)}


@both_backends
async def test_the_least_share_leaves_the_likeliest_alone(model: TransformersBackend) -> None:
    hot = {"max_new_tokens": 16, "temperature": 50.0, "seed": 3}
    greedy = await answer(model, GenerationOptions(max_new_tokens=16))
    wild = await answer(model, GenerationOptions(**hot))  # type: ignore[arg-type]
    tamed = await answer(model, GenerationOptions(**hot, min_p=1.0))  # type: ignore[arg-type]
    assert tamed.text == greedy.text != wild.text


@both_backends
async def test_a_bias_on_a_token_that_the_model_lacks_is_refused(
    model: TransformersBackend,
) -> None:
    with pytest.raises(BackendError, match="logit_bias names token 97, and the model's are 0 to 9"):
        await answer(model, GenerationOptions(logit_bias={97: 1.0, 3: 1.0}))
    await answer(model, GenerationOptions(max_new_tokens=1, logit_bias={96: 1.0}))


@both_backends
async def test_requests_side_by_side_do_not_count_each_others_tokens() -> None:
    backend = TransformersBackend(llama(), tokenizer())
    asked = [
        GenerationOptions(max_new_tokens=24, frequency_penalty=step / 10, presence_penalty=step / 5)
        for step in range(6)
    ]
    alone = [(await answer(backend, options)).text for options in asked]
    found = [""] * len(asked)

    async def ask(number: int) -> None:
        found[number] = (await answer(backend, asked[number])).text

    async with anyio.create_task_group() as tasks:
        for number in range(len(asked)):
            tasks.start_soon(ask, number)
    assert found == alone
    assert len(set(found)) > 1
