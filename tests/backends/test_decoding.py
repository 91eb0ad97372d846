"""The model's own generation config: what is kept of it, and what cannot get in the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from intrinsic.backends import GenerationOptions
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.errors import BackendError, MixtureError
from tests.bus.backends import both_backends
from tests.tiny import llama, tokenizer

SHORT = GenerationOptions(max_new_tokens=12)


def backend_with(**config: object) -> TransformersBackend:
    backend = TransformersBackend(llama(), tokenizer())
    for name, value in config.items():
        setattr(backend.model.generation_config, name, value)
    return backend


@both_backends
async def test_the_repetition_penalty_is_the_models_own_unless_given() -> None:
    own = backend_with(repetition_penalty=0.2)
    ids = torch.tensor([own.tokenizer("hello")["input_ids"]])
    mask = torch.ones_like(ids)
    expected = own.model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False)
    generation = await own.generate("hello", options=SHORT)
    assert generation.text == own.tokenizer.decode(expected[0, ids.shape[1] :])
    plain = GenerationOptions(max_new_tokens=12, repetition_penalty=1.0)
    without = (await own.generate("hello", options=plain)).text
    assert without == (await backend_with().generate("hello", options=SHORT)).text
    assert without != generation.text


@pytest.mark.parametrize(
    "odd",
    [
        {"num_return_sequences": 2},
        {"num_beams": 3, "length_penalty": 2.0},
        {"num_beam_groups": 2, "diversity_penalty": 1.0},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"prompt_lookup_num_tokens": 3},
        {"dola_layers": "low"},
        {"guidance_scale": 2.0},
        {"min_new_tokens": 100},
        {"max_time": 0.0001},
        {"output_scores": True, "return_dict_in_generate": True},
        {"do_sample": True, "temperature": 3.0},
    ],
)
@both_backends
async def test_odd_settings_of_a_model_do_not_get_in_the_way(odd: dict[str, Any]) -> None:
    expected = await backend_with().generate("hello", options=SHORT)
    backend = backend_with(**odd)
    assert (await backend.generate("hello", options=SHORT)).text == expected.text
    assert all(getattr(backend.model.generation_config, name) == odd[name] for name in odd)


@both_backends
async def test_tokens_and_stop_strings_of_the_model_are_respected() -> None:
    whole = (await backend_with().generate("hello", options=SHORT)).text
    first = tokenizer()(whole[0])["input_ids"]
    for banned in ({"suppress_tokens": first}, {"bad_words_ids": [first]}):
        assert whole[0] not in (await backend_with(**banned).generate("hello", options=SHORT)).text
    for stop in (whole[3], [whole[3]]):
        ended = await backend_with(stop_strings=stop).generate("hello", options=SHORT)
        assert ended.text == whole[: whole.index(whole[3])]
        assert ended.finish_reason == "stop"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (5, "the prompt is 5"),
        (None, "the prompt is None"),
        (["hello"], "turn 1 of the prompt is 'hello'"),
        ([{"role": "user"}], "the content of turn 1 of the prompt is None"),
        ([{"role": "user", "content": None}], "the content of turn 1 of the prompt is None"),
        ([{"role": "user", "content": [{"type": "text"}]}], "the content of turn 1"),
        ([{"content": "hi"}], "the role of turn 1 of the prompt is None"),
        ("half \ud800", "the prompt is not valid Unicode"),
    ],
)
@pytest.mark.parametrize("chat", [False, True])
@both_backends
async def test_a_prompt_that_is_no_text_is_refused_in_words(
    prompt: Any, words: str, chat: bool
) -> None:
    backend = TransformersBackend(llama(), tokenizer(chat=chat))
    with pytest.raises(BackendError, match=words):
        await backend.generate(prompt)
    with pytest.raises(BackendError, match=words):
        await backend.score(prompt, ["x"])


@both_backends
async def test_a_template_that_refuses_is_told_in_words() -> None:
    strict = tokenizer()
    strict.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BackendError, match="template refuses the prompt: roles must alternate"):
        await TransformersBackend(llama(), strict).generate("hello")


@pytest.mark.parametrize("scaling", [float("nan"), float("inf"), "2"])
@both_backends
async def test_a_scaling_that_is_no_finite_number_is_refused(scaling: Any) -> None:
    backend = TransformersBackend(llama(), tokenizer())
    with pytest.raises(MixtureError, match="scaling of adapter 'a' is"):
        await backend.load_lora_adapter("unread", "a", scaling)
