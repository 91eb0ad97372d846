"""Chat completions by OpenAI's own client: routed, fixed, refused, and told what was applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import openai
import pytest

from intrinsic.events import MemoryEvent
from tests.server.openai.asking import TURNS, client, reference, refused, said
from tests.server.serving import Served, serving


def text_of(answer: Any) -> str:
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("base", {}),
        ("a", {"a": 1.0}),
        ("a@1", {"a": 1.0}),
        ("a:0.5", {"a": 0.5}),
        ("a:0.5+b:-0.7", {"a": 0.5, "b": -0.7}),
        ("a+b@1:2e-1", {"a": 1.0, "b": 0.2}),
        (" a : .5 + c ", {"a": 0.5, "c": 1.0}),
        ("a:0", {}),
        ("tiny-llama", {}),
    ],
)
def test_a_model_is_a_mixture(
    served: Served, asking: openai.OpenAI, model: str, weights: dict[str, float]
) -> None:
    answer: Any = asking.chat.completions.create(model=model, messages=TURNS, max_tokens=12)
    expected = reference(served, TURNS, weights, max_new_tokens=12)
    assert text_of(answer) == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason == "length"
    assert answer.usage.prompt_tokens == expected.prompt_tokens
    assert answer.usage.completion_tokens == expected.tokens
    assert answer.usage.total_tokens == expected.tokens + expected.prompt_tokens
    assert answer.model == model
    assert answer.intrinsic["mixture"] == {f"{k.split('@')[0]}@1": w for k, w in weights.items()}
    assert answer.intrinsic["routed"] is False


def test_the_texts_of_the_mixtures_differ(served: Served) -> None:
    texts = {
        reference(served, TURNS, weights, max_new_tokens=12).text
        for weights in ({}, {"a": 1.0}, {"a": 0.5}, {"a": 0.5, "b": -0.7})
    }
    assert len(texts) == 4


def test_auto_routes_and_says_what_it_applied(served: Served, asking: openai.OpenAI) -> None:
    raw = asking.chat.completions.with_raw_response.create(
        model="auto", messages=said("of b , please"), max_tokens=12
    )
    answer: Any = raw.parse()
    assert (
        text_of(answer)
        == reference(served, said("of b , please"), {"b": 1.0}, max_new_tokens=12).text
    )
    told = answer.intrinsic
    assert told["mixture"] == {"b@1": 1.0}
    assert told["routed"] is True
    assert told["skipped"] == []
    assert [one["adapter"] for one in told["selections"]] == ["b"]
    assert told["selections"][0]["confidence"] == 0.9
    assert {"queue_ms", "route_ms", "load_ms", "first_token_ms", "total_ms"} <= set(told["times"])
    assert raw.headers["x-intrinsic-mixture"] == "b@1:1"
    assert raw.headers["x-intrinsic-selections"] == "b=0.9000"
    assert raw.headers["x-intrinsic-confidence"] == "0.9000"
    assert float(raw.headers["x-intrinsic-route-ms"]) >= 0
    assert raw.headers["x-intrinsic-request-id"] == told["request_id"]
    assert told["request_id"].startswith(raw.headers["x-request-id"])


def test_none_fits_is_the_base(served: Served, asking: openai.OpenAI) -> None:
    raw = asking.chat.completions.with_raw_response.create(
        model="auto", messages=TURNS, max_tokens=12
    )
    assert text_of(raw.parse()) == reference(served, TURNS, {}, max_new_tokens=12).text
    assert raw.headers["x-intrinsic-mixture"] == "base"
    assert raw.headers["x-intrinsic-selections"] == "none"


def test_a_router_that_fails_costs_the_adapters_not_the_answer(
    served: Served, asking: openai.OpenAI
) -> None:
    answer: Any = asking.chat.completions.create(
        model="auto", messages=said("fail a"), max_tokens=12
    )
    assert text_of(answer) == reference(served, said("fail a"), {}, max_new_tokens=12).text
    assert answer.intrinsic["skipped"] == [{"what": "router", "why": "RoutingError: told to"}]


def test_a_suspended_bus_is_the_base_even_where_adapters_are_active(
    served: Served, asking: openai.OpenAI
) -> None:
    system = served.service.system
    served.call(system.manager.set_active, {"c": 1.0})
    served.call(system.bus.suspend, "by hand")
    try:
        answer: Any = asking.chat.completions.create(
            model="auto", messages=said("of b"), max_tokens=12
        )
    finally:
        served.call(system.bus.resume)
        served.call(system.manager.set_active, {})
    assert text_of(answer) == reference(served, said("of b"), {}, max_new_tokens=12).text
    assert answer.intrinsic["skipped"] == [{"what": "bus", "why": "suspended: by hand"}]


def test_what_asks_for_nothing_gets_what_is_active(served: Served, asking: openai.OpenAI) -> None:
    manager = served.service.system.manager
    served.call(manager.set_active, {"b": 0.5})
    try:
        active = reference(served, TURNS, {"b": 0.5}, max_new_tokens=12).text
        own: Any = asking.chat.completions.create(model="tiny-llama", messages=TURNS, max_tokens=12)
        assert text_of(own) == active
        with served.client() as plain:
            body = {"messages": TURNS, "max_tokens": 12}
            unnamed = plain.post("/v1/chat/completions", json=body).json()
        assert unnamed["choices"][0]["message"]["content"] == active
        assert unnamed["model"] == "tiny-llama"
        base: Any = asking.chat.completions.create(model="base", messages=TURNS, max_tokens=12)
        assert text_of(base) == reference(served, TURNS, {}, max_new_tokens=12).text != active
    finally:
        served.call(manager.set_active, {})


@pytest.mark.parametrize("model", ["auto", "tiny-llama"])
@pytest.mark.parametrize(
    "lora",
    [
        {"a": 0.5, "b@1": -0.7},
        [{"name": "a", "scaling": 0.5}, {"name": "b", "scaling": -0.7}],
        [{"id": 0, "scale": 0.5}, {"id": 1, "scale": -0.7}],
        "a:0.5+b:-0.7",
        {"mixture": {"a": 0.5, "b": -0.7}},
        {"mixture": [{"name": "a", "scaling": 0.5}, {"id": 1, "scale": -0.7}], "session": "s"},
        {"mixture": "a:0.5+b:-0.7"},
    ],
)
def test_lora_fixes_a_mixture_in_any_form(
    served: Served, asking: openai.OpenAI, model: str, lora: object
) -> None:
    answer: Any = asking.chat.completions.create(
        model=model, messages=said("of c"), max_tokens=12, extra_body={"lora": lora}
    )
    assert answer.intrinsic["mixture"] == {"a@1": 0.5, "b@1": -0.7}
    expected = reference(served, said("of c"), {"a": 0.5, "b": -0.7}, max_new_tokens=12)
    assert text_of(answer) == expected.text


def test_a_mixture_of_nothing_is_the_base(served: Served, asking: openai.OpenAI) -> None:
    forms: list[object] = [{"mixture": {}}, [], {"mixture": []}]
    for lora in forms:
        answer: Any = asking.chat.completions.create(
            model="auto", messages=said("of c"), max_tokens=4, extra_body={"lora": lora}
        )
        assert answer.intrinsic["mixture"] == {}
        assert answer.intrinsic["routed"] is False


@pytest.mark.parametrize(
    ("lora", "mixture"),
    [
        ({"top_k": 2}, {"a@1": 1.0, "b@1": 1.0}),
        ({"top_k": 3, "exclude": ["a"]}, {"b@1": 1.0, "c@1": 1.0}),
        ({"top_k": 3, "exclude": ["a", "c"]}, {"b@1": 1.0}),
        ({"threshold": 0.95}, {}),
        ({"threshold": 0.5, "top_k": 1}, {"a@1": 1.0}),
        ({"memories": [{"text": "d"}], "top_k": 4}, {f"{name}@1": 1.0 for name in "abcd"}),
    ],
)
def test_lora_says_how_to_route(
    asking: openai.OpenAI, lora: dict[str, Any], mixture: dict[str, float]
) -> None:
    for model in ("auto", "tiny-llama"):
        answer: Any = asking.chat.completions.create(
            model=model, messages=said("a b c"), max_tokens=2, extra_body={"lora": lora}
        )
        assert answer.intrinsic["routed"] is True
        assert answer.intrinsic["mixture"] == mixture


def test_lora_that_says_nothing_changes_nothing(asking: openai.OpenAI) -> None:
    forms: list[dict[str, float] | None] = [{}, None]
    for lora in forms:
        answer: Any = asking.chat.completions.create(
            model="auto", messages=said("of c"), max_tokens=2, extra_body={"lora": lora}
        )
        assert answer.intrinsic["routed"] is True
        assert answer.intrinsic["mixture"] == {"c@1": 1.0}


def test_shadow_routes_and_applies_nothing(served: Served, asking: openai.OpenAI) -> None:
    answer: Any = asking.chat.completions.create(
        model="auto", messages=said("of b"), max_tokens=12, extra_body={"lora": {"shadow": True}}
    )
    assert answer.intrinsic["shadow"] is True
    assert [one["adapter"] for one in answer.intrinsic["selections"]] == ["b"]
    assert answer.intrinsic["mixture"] == {}
    assert text_of(answer) == reference(served, said("of b"), {}, max_new_tokens=12).text


def test_the_routing_of_an_event_published_before_serves(
    served: Served, asking: openai.OpenAI
) -> None:
    event = MemoryEvent.from_text("of c", request_id="published-before")
    served.call(served.service.system.bus.publish, event)
    lora = {"request_id": "published-before"}
    answer: Any = asking.chat.completions.create(
        model="auto", messages=said("of a"), max_tokens=2, extra_body={"lora": lora}
    )
    assert answer.intrinsic["mixture"] == {"c@1": 1.0}
    sentence = refused(
        lambda: asking.chat.completions.create(
            model="auto", messages=TURNS, extra_body={"lora": {"request_id": "never"}}
        ),
        404,
        "not_found",
    )
    assert "'never'" in sentence


def test_the_session_goes_with_the_event(served: Served, asking: openai.OpenAI) -> None:
    heard: list[Any] = []
    subscription = served.service.system.bus.register_handler("*", heard.append)
    try:
        asking.chat.completions.create(
            model="auto",
            messages=[*said("first b"), {"role": "assistant", "content": "x"}, *said("then a")],
            max_tokens=2,
            extra_body={"lora": {"session": "of mine", "memories": [{"text": "kept"}]}},
        )
    finally:
        served.call(subscription.cancel)
    (event,) = heard
    assert event.context.session_id == "of mine"
    assert [vector.source_text for vector in event.vectors] == ["then a", "first b", "kept"]


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": "aa"}, 404, "unknown model 'aa'; did you mean 'a'?; known: auto, base, tiny"),
        ({"model": "a:0.5+nobody"}, 404, "unknown model 'nobody'"),
        ({"model": "a@2"}, 404, "unknown model 'a@2'"),
        ({"model": "a+a@1"}, 400, "'a@1' is named twice"),
        ({"model": "a+"}, 404, "names no adapter somewhere"),
        ({"model": "a", "lora": {"b": 1}}, 400, "so does model 'a'"),
        ({"model": "a", "lora": {"top_k": 1}}, 400, "model 'a' fixes the mixture"),
        ({"model": "base", "lora": {"exclude": ["a"]}}, 400, "model 'base' fixes the mixture"),
        ({"lora": {"mixture": {"a": 1}, "top_k": 1}}, 400, "a mixture and says how to route"),
        ({"lora": {"request_id": "x", "shadow": True}}, 400, "asks for another one"),
        ({"lora": {"a": 1, "top_k": 1}}, 400, "'a' is no option; known: mixture, top_k"),
        ({"model": "a+base"}, 400, "'base' is no adapter"),
        ({"lora": {"auto": 1}}, 400, "'auto' is no adapter"),
        ({"lora": "tiny-llama"}, 400, "'tiny-llama' is no adapter"),
        ({"lora": {"a" * 401: 1}}, 400, "at most 400 characters"),
        ({"lora": {"nobody": 1}}, 404, "unknown model 'nobody'"),
        ({"lora": {"topk": 1}}, 404, "or is it lora's option 'top_k'?"),
        ({"lora": [{"id": 99}]}, 400, "invalid adapter id 99"),
        ({"lora": [{"id": True}]}, 400, "the id of an adapter is True"),
        ({"lora": [{"name": "a", "scale": 1}]}, 400, 'write {"name", "scaling"}'),
        ({"lora": {"a": "much"}}, 400, "the weight of 'a' is 'much'"),
        ({"lora": {"top_k": 0}}, 400, "lora.top_k"),
        ({"lora": {"threshold": 2}}, 400, "lora.threshold"),
        ({"lora": {"memories": [{"text": "x", "weight": 1}]}}, 400, "lora.memories.0.weight"),
        ({"lora": 5}, 400, "lora"),
        ({"tools": [{"type": "function"}]}, 400, "'tools' is not served here"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format 'json_object'"),
        ({"modalities": ["audio"]}, 400, "modalities"),
        ({"audio": {"voice": "x"}}, 400, "'audio' is not served"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "a message has no content"),
        ({"messages": [{"role": "user"}]}, 400, "a message has no content"),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, "messages.0.role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            400,
            "type 'image_url'; only text is read here",
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]},
            400,
            "calls tools",
        ),
        ({"messages": said("  ")}, 400, "the prompt is empty"),
        ({"messages": said("x" * 600)}, 400, "the model reads 512"),
        ({"top_logprobs": 2}, 400, "top_logprobs is given without logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs"),
        ({"n": 65}, 400, "n (body)"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop"),
        ({"stop": ""}, 400, "stop"),
        ({"temperature": -1}, 400, "temperature"),
        ({"frequency_penalty": 3}, 400, "frequency_penalty"),
        ({"logit_bias": {"x": 1}}, 400, "logit_bias names token 'x'"),
        ({"logit_bias": {"97": 1}}, 400, "logit_bias names token 97"),
        ({"logit_bias": {"5": 101}}, 400, "numbers from -100 to 100"),
        ({"max_tokens": 0}, 400, "max_tokens"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    served: Served, asking: openai.OpenAI, asked: dict[str, Any], status: int, words: str
) -> None:
    body = {"model": "auto", "messages": TURNS, **asked}
    kind = {400: "invalid_request", 404: "not_found"}[status]
    sentence = (
        refused(lambda: asking.chat.completions.create(**body, timeout=20), status, kind)
        if ("lora" not in body)
        else refused(
            lambda: asking.chat.completions.create(
                model=body["model"], messages=body["messages"], extra_body={"lora": body["lora"]}
            ),
            status,
            kind,
        )
    )
    assert words in sentence


@pytest.mark.parametrize(
    "text",
    [
        '{"messages": [{"role": "user", "content": "\\ud800"}]}',
        '{"messages": [{"role": "user", "content": "x"}], "lora": {"\\ud800": 1}}',
        '{"messages": [{"role": "user", "content": "x"}], "lora": {"a": NaN}}',
        '{"messages": [{"role": "user", "content": "x"}], "lora": {"a": 1e999}}',
        '{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"\\ud800": 1}}',
        '{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        '{"messages": ' + "[" * 5000,
        "[]",
    ],
)
def test_what_only_looks_like_json_is_refused(served: Served, text: str) -> None:
    with served.client() as plain:
        answer = plain.post(
            "/v1/chat/completions",
            content=text.encode(),
            headers={"Content-Type": "application/json"},
        )
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["status_code"] == answer.status_code


def test_choices_draw_each_with_its_own_seed(served: Served, asking: openai.OpenAI) -> None:
    drawn: dict[str, Any] = {"temperature": 1.5, "max_new_tokens": 12}
    answer: Any = asking.chat.completions.create(
        model="a", messages=TURNS, n=3, seed=7, temperature=1.5, max_tokens=12
    )
    expected = [reference(served, TURNS, {"a": 1.0}, seed=7 + i, **drawn) for i in range(3)]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.message.content for choice in answer.choices] == [e.text for e in expected]
    assert len({e.text for e in expected}) == 3
    assert answer.usage.prompt_tokens == expected[0].prompt_tokens
    assert answer.usage.completion_tokens == sum(e.tokens for e in expected)
    negative: Any = asking.chat.completions.create(
        model="a", messages=TURNS, seed=-1, temperature=1.5, max_tokens=12
    )
    assert text_of(negative) == reference(served, TURNS, {"a": 1.0}, seed=2**63 - 1, **drawn).text


def test_sampling_is_passed_on(served: Served, asking: openai.OpenAI) -> None:
    answer: Any = asking.chat.completions.create(
        model="base",
        messages=TURNS,
        max_completion_tokens=16,
        seed=3,
        temperature=2.0,
        top_p=0.9,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        logit_bias={"40": 3},
        extra_body={"top_k": 20, "min_p": 0.01, "repetition_penalty": 3.0},
    )
    asked: dict[str, Any] = {
        "max_new_tokens": 16,
        "seed": 3,
        "temperature": 2.0,
        "top_p": 0.9,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "logit_bias": {40: 3.0},
        "top_k": 20,
        "min_p": 0.01,
        "repetition_penalty": 3.0,
    }
    assert text_of(answer) == reference(served, TURNS, {}, **asked).text
    assert answer.choices[0].finish_reason
    for left_out in ("top_k", "frequency_penalty", "logit_bias", "repetition_penalty"):
        less = {name: value for name, value in asked.items() if name != left_out}
        assert reference(served, TURNS, {}, **less).text != text_of(answer), left_out


def test_a_stop_string_ends_an_answer(served: Served, asking: openai.OpenAI) -> None:
    whole = reference(served, TURNS, {"a": 1.0}, max_new_tokens=12).text
    stop = whole[5:7]
    for given in (stop, ["never there", stop]):
        answer: Any = asking.chat.completions.create(
            model="a", messages=TURNS, max_tokens=12, stop=given
        )
        assert text_of(answer) == whole[: whole.index(stop)]
        assert answer.choices[0].finish_reason == "stop"


def test_log_probabilities(served: Served, asking: openai.OpenAI) -> None:
    answer: Any = asking.chat.completions.create(
        model="a", messages=TURNS, max_tokens=6, logprobs=True, top_logprobs=3
    )
    expected = reference(served, TURNS, {"a": 1.0}, max_new_tokens=6, logprobs=3)
    content = answer.choices[0].logprobs.content
    assert [one.token for one in content] == [one.token for one in expected.logprobs]
    for one, other in zip(content, expected.logprobs, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert one.bytes == list(other.bytes)
        assert [top.token for top in one.top_logprobs] == [one.token for one in other.top]
    none: Any = asking.chat.completions.create(model="a", messages=TURNS, max_tokens=6)
    assert none.choices[0].logprobs is None


def test_parts_and_developers_are_understood(served: Served, asking: openai.OpenAI) -> None:
    answer: Any = asking.chat.completions.create(
        model="base",
        messages=[
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "tell "}, {"type": "text", "text": "me"}],
            },
        ],
        max_tokens=8,
    )
    turns: Any = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "tell me"}]
    assert text_of(answer) == reference(served, turns, {}, max_new_tokens=8).text


def test_an_answer_may_fill_the_context(served: Served, asking: openai.OpenAI) -> None:
    long = said("x" * 440)
    answer: Any = asking.chat.completions.create(
        model="base", messages=long, logit_bias={"2": -100}
    )
    assert answer.usage.total_tokens == 512
    assert answer.choices[0].finish_reason == "length"


def test_fields_that_are_not_known_are_named(asking: openai.OpenAI) -> None:
    answer: Any = asking.chat.completions.create(
        model="base",
        messages=TURNS,
        max_tokens=2,
        user="me",
        metadata={"x": "y"},
        store=False,
        service_tier="auto",
        parallel_tool_calls=False,
        response_format={"type": "text"},
        extra_body={"mirostat": 2, "tfs": None},
    )
    assert answer.intrinsic["ignored"] == ["mirostat"]


def test_the_headers_are_ascii_whatever_an_adapter_is_called(tmp_path: Path) -> None:
    from tests import tiny

    with serving(tmp_path) as served, client(served) as asking:
        model: Any = vars(served.service.system.backend)["model"]
        folder = tiny.write_adapter(tmp_path / "more", model, seed=9, card={"name": "größe"})
        served.service.system.registry.register_adapter(folder)
        raw = asking.chat.completions.with_raw_response.create(
            model="größe:0.5", messages=TURNS, max_tokens=2
        )
    told = json.loads(raw.text)["intrinsic"]["mixture"]
    assert told == {"größe@1": 0.5}
    assert unquote(raw.headers["x-intrinsic-mixture"]) == "größe@1:0.5"


@pytest.mark.parametrize("request_id", [" ", "a ", " a", "é" * 83 + " " * 117])
def test_no_header_begins_or_ends_with_spaces(served: Served, request_id: str) -> None:
    with served.client() as asking:
        event = {"vectors": [{"text": "b"}], "request_id": request_id}
        assert asking.post("/v1/events", json=event).status_code == 200
        answer = asking.post(
            "/v1/chat/completions",
            json={"messages": TURNS, "max_tokens": 2, "lora": {"request_id": request_id}},
        )
    assert answer.status_code == 200
    assert request_id.startswith(unquote(answer.headers["x-intrinsic-request-id"])[:80])


def test_a_key_is_needed(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong", max_retries=0) as asking:
        refused(
            lambda: asking.chat.completions.create(model="a", messages=TURNS),
            401,
            "authentication_error",
        )
