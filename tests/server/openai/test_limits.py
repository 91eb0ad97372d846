"""What a server is told to take, and backends that can do less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intrinsic.backends import FunctionBackend
from intrinsic.config.server_options import ServerOptions
from tests.server.openai.asking import TURNS, client, reference, refused, said, until_idle
from tests.server.serving import serving


def test_prompts_beyond_the_limit_are_refused_before_they_are_routed(tmp_path: Path) -> None:
    options = ServerOptions(port=0, max_prompt_tokens=40)
    with serving(tmp_path, options=options) as served, client(served) as asking:
        heard: list[Any] = []
        served.service.system.bus.register_handler("*", heard.append)
        sentence = refused(
            lambda: asking.chat.completions.create(model="auto", messages=said("x" * 41)),
            400,
            "invalid_request",
        )
        assert "tokens and this server takes 40" in sentence
        for prompt in ("x" * 41, ["x", "x" * 41], [[7] * 41]):
            refused(
                lambda prompt=prompt: asking.completions.create(model="auto", prompt=prompt),
                400,
                "invalid_request",
            )
        assert heard == []
        asking.completions.create(model="auto", prompt="x" * 40, max_tokens=1)


def test_settings_say_how_to_decode_where_a_request_does_not(tmp_path: Path) -> None:
    flags = {"generation.max_new_tokens": 5, "generation.temperature": 1.5, "generation.seed": 4}
    with serving(tmp_path, flags=flags) as served, client(served) as asking:
        drawn: dict[str, Any] = {"max_new_tokens": 5, "temperature": 1.5, "seed": 4}
        answer = asking.chat.completions.create(model="base", messages=TURNS)
        expected = reference(served, TURNS, {}, **drawn)
        assert answer.choices[0].message.content == expected.text
        greedy = asking.chat.completions.create(model="base", messages=TURNS, temperature=0)
        drawn["temperature"] = 0.0
        assert greedy.choices[0].message.content == reference(served, TURNS, {}, **drawn).text


def test_a_backend_without_weights_answers_and_says_what_it_left_out(tmp_path: Path) -> None:
    async def echo(prompt: Any) -> str:
        return f"you said {prompt if isinstance(prompt, str) else prompt[-1]['content']}"

    backend = FunctionBackend(echo, name="echo")
    with serving(tmp_path, backend=backend) as served, client(served) as asking:
        answer: Any = asking.chat.completions.create(model="auto", messages=said("of a"))
        assert answer.choices[0].message.content == "you said of a"
        assert answer.intrinsic["mixture"] == {}
        assert "no access to weights" in answer.intrinsic["skipped"][0]["why"]
        stream = asking.chat.completions.create(model="auto", messages=said("of a"), stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == "you said of a"
        raw = asking.completions.create(model="base", prompt="hi")
        assert raw.choices[0].text == "you said hi"
        for words, call in (
            ("cannot apply adapters", {"model": "a"}),
            ("cannot tell log-probabilities", {"model": "base", "logprobs": True}),
        ):
            body: Any = {"messages": TURNS, **call}
            sentence = refused(
                lambda body=body: asking.chat.completions.create(**body), 400, "invalid_request"
            )
            assert words in sentence
        sentence = refused(
            lambda: asking.completions.create(model="auto", prompt=[3, 4]), 400, "invalid_request"
        )
        assert "cannot read token ids back" in sentence
        until_idle(served)
