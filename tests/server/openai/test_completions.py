"""Completions by OpenAI's own client: raw prompts, several at once, echoed, as ids."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import openai
import pytest

from intrinsic.backends import RawPrompt, TokenLogprob
from intrinsic.bus import PublishReport
from intrinsic.events import MemoryEvent
from intrinsic.server.openai.token_form import TextTokens, chat_tokens
from tests.server.openai.asking import reference, refused, until_idle
from tests.server.serving import Served


def text_of(answer: Any, choice: int = 0) -> str:
    return str(answer.choices[choice].text)


def test_a_prompt_goes_to_the_model_as_it_is(served: Served, asking: openai.OpenAI) -> None:
    answer: Any = asking.completions.create(model="a", prompt="hello", max_tokens=10)
    expected = reference(served, RawPrompt("hello"), {"a": 1.0}, max_new_tokens=10)
    assert text_of(answer) == expected.text
    assert answer.usage.prompt_tokens == 5
    assert answer.usage.completion_tokens == expected.tokens
    assert answer.object == "text_completion"
    assert answer.intrinsic["mixture"] == {"a@1": 1.0}
    framed = reference(served, "hello", {"a": 1.0}, max_new_tokens=10)
    assert framed.prompt_tokens > 5


def test_without_a_length_it_has_sixteen_tokens(asking: openai.OpenAI) -> None:
    answer: Any = asking.completions.create(model="a", prompt="hello", logit_bias={"2": -100})
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_token_ids_are_taken_as_they_are(served: Served, asking: openai.OpenAI) -> None:
    ids = (7, 9, 30)
    expected = reference(served, RawPrompt(ids=ids), {}, max_new_tokens=8).text
    for prompt in ([*ids], [[*ids]]):
        answer: Any = asking.completions.create(model="base", prompt=prompt, max_tokens=8)
        assert text_of(answer) == expected
        assert answer.usage.prompt_tokens == 3
    echoed: Any = asking.completions.create(model="base", prompt=[*ids], max_tokens=8, echo=True)
    assert text_of(echoed) == "".join(chr(29 + one) for one in ids) + expected


def test_several_prompts_are_routed_each_by_itself(served: Served, asking: openai.OpenAI) -> None:
    prompts = ["of a", "nothing", "of b"]
    answer: Any = asking.completions.create(
        model="auto", prompt=prompts, max_tokens=8, n=2, seed=3, temperature=1.5
    )
    mixtures: list[dict[str, float]] = [{"a": 1.0}, {}, {"b": 1.0}]
    drawn: dict[str, Any] = {"max_new_tokens": 8, "temperature": 1.5}
    assert [choice.index for choice in answer.choices] == [*range(6)]
    for number, choice in enumerate(answer.choices):
        weights = mixtures[number // 2]
        expected = reference(
            served, RawPrompt(prompts[number // 2]), weights, seed=3 + number % 2, **drawn
        )
        assert choice.text == expected.text
        assert choice.intrinsic["mixture"] == {f"{name}@1": w for name, w in weights.items()}
    assert answer.usage.prompt_tokens == sum(map(len, prompts))
    until_idle(served)


def test_the_headers_are_of_the_first_prompt_whichever_is_routed_first(
    served: Served, asking: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, other = served.service.system.bus, anyio.Event()
    publish = bus.publish

    async def late(event: MemoryEvent) -> PublishReport:
        if event.text == "of a":
            await other.wait()
            return await publish(event)
        report = await publish(event)
        asyncio.get_running_loop().call_later(0, other.set)
        return report

    monkeypatch.setattr(bus, "publish", late)
    raw = asking.completions.with_raw_response.create(
        model="auto", prompt=["of a", "of b"], max_tokens=2
    )
    answer: Any = raw.parse()
    assert answer.intrinsic["mixture"] == {"a@1": 1.0}
    assert raw.headers["x-intrinsic-mixture"] == "a@1:1"


def test_what_is_echoed_comes_first(served: Served, asking: openai.OpenAI) -> None:
    expected = reference(served, RawPrompt("hello"), {"a": 1.0}, max_new_tokens=8).text
    answer: Any = asking.completions.create(model="a", prompt="hello", max_tokens=8, echo=True)
    assert text_of(answer) == "hello" + expected
    stream = asking.completions.create(
        model="a", prompt=["hello", "hello"], max_tokens=8, echo=True, stream=True
    )
    texts = ["", ""]
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == ["hello" + expected] * 2


def test_log_probabilities_in_the_form_of_completions(
    served: Served, asking: openai.OpenAI
) -> None:
    answer: Any = asking.completions.create(model="a", prompt="hello", max_tokens=6, logprobs=2)
    expected = reference(served, RawPrompt("hello"), {"a": 1.0}, max_new_tokens=6, logprobs=2)
    told = answer.choices[0].logprobs
    assert told.tokens == [one.token for one in expected.logprobs]
    assert told.token_logprobs == pytest.approx(
        [one.logprob for one in expected.logprobs], abs=1e-4
    )
    assert [set(top) for top in told.top_logprobs] == [
        {top.token for top in one.top} for one in expected.logprobs
    ]
    assert [answer.choices[0].text[at] for at in told.text_offset] == told.tokens
    stream = asking.completions.create(
        model="a", prompt="hello", max_tokens=6, logprobs=2, stream=True
    )
    offsets = [at for c in stream if (one := c.choices[0].logprobs) for at in one.text_offset or ()]
    assert offsets == told.text_offset


def test_a_token_is_told_where_it_begins_though_its_text_comes_in_parts(
    served: Served, asking: openai.OpenAI
) -> None:
    stream: Any = asking.completions.create(
        model="a", prompt="hello", max_tokens=8, logprobs=0, stop="no such text", stream=True
    )
    choices = [chunk.choices[0] for chunk in stream]
    offsets = [at for one in choices if one.logprobs for at in one.logprobs.text_offset or ()]
    text = "".join(one.text for one in choices)
    assert len(text) > 3
    assert offsets == list(range(len(text)))  # its tokens are characters


def test_parts_of_characters_are_told_by_their_bytes_and_the_likeliest_by_its_text() -> None:
    parts = [
        TokenLogprob("\N{REPLACEMENT CHARACTER}", 1, -0.5, (0xC3,)),
        TokenLogprob("\N{REPLACEMENT CHARACTER}", 2, -1.5, (0xA9,)),
    ]
    told = [TokenLogprob("a", 0, -2.0, (0x61,), tuple(parts))]
    [chat] = chat_tokens(told)["content"]
    assert [top["bytes"] for top in chat["top_logprobs"]] == [[0xC3], [0xA9]]
    assert TextTokens().of(told)["top_logprobs"] == [{"\N{REPLACEMENT CHARACTER}": -0.5}]


def test_parts_of_a_character_are_told_where_it_begins() -> None:
    bytes_ = [b"a", *(bytes([byte]) for byte in "\N{SLIGHTLY SMILING FACE}".encode()), b"bc", b"d"]
    tokens = [
        TokenLogprob(one.decode(errors="replace"), n, -1.0, tuple(one))
        for n, one in enumerate(bytes_)
    ]
    parts = TextTokens()
    assert parts.of(tokens[:3])["text_offset"] == [0, 1, 1]
    assert parts.of(tokens[3:])["text_offset"] == [1, 1, 2, 4]


def test_the_stream_is_the_answer(served: Served, asking: openai.OpenAI) -> None:
    chunks: list[Any] = list(
        asking.completions.create(
            model="a:0.5+b:0.2",
            prompt="hello",
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    expected = reference(served, RawPrompt("hello"), {"a": 0.5, "b": 0.2}, max_new_tokens=8)
    assert "".join(c.choices[0].text for c in chunks[:-1]) == expected.text
    assert chunks[0].intrinsic["mixture"] == {"a@1": 0.5, "b@1": 0.2}
    assert chunks[-2].choices[0].finish_reason == expected.finish_reason
    assert chunks[-1].usage.total_tokens == expected.tokens + 5


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"suffix": "end"}, "'suffix' is not served here"),
        ({"best_of": 3}, "best_of is not served here"),
        ({"echo": True, "logprobs": 1}, "echo with logprobs is not served here"),
        ({"logprobs": 21}, "logprobs (body)"),
        ({"prompt": []}, "prompt (body)"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": [[]]}, "the prompt is empty"),
        ({"prompt": ["x", 3]}, "a prompt is a text, a list of token ids"),
        ({"prompt": [-1]}, "a prompt is a text, a list of token ids"),
        ({"prompt": [97]}, "the prompt has token 97, and the model's are 0 to 96"),
        ({"prompt": ["x"] * 33, "n": 2}, "33 prompts with n=2"),
        ({"prompt": ["x"] * 65}, "prompt (body)"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    asking: openai.OpenAI, asked: dict[str, Any], words: str
) -> None:
    body: dict[str, Any] = {"model": "auto", "prompt": "x", "max_tokens": 2, **asked}
    sentence = refused(lambda: asking.completions.create(**body), 400, "invalid_request")
    assert words in sentence
