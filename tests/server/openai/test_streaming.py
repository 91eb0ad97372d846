"""Streams of events: the same answer in pieces, and what becomes of those that are left."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

from intrinsic.backends import Generation, Piece
from intrinsic.config.server_options import ServerOptions
from intrinsic.errors import BackendError
from tests.server.openai.asking import TURNS, client, gated, reference, refused, rows, until_idle
from tests.server.serving import Served, serving


def chunks_of(served: Served, **asked: Any) -> list[Any]:
    body: dict[str, Any] = {"model": "a", "messages": TURNS, "max_tokens": 12, **asked}
    with client(served) as asking:
        return list(asking.chat.completions.create(**body, stream=True))


def statistic(served: Served, name: str, kind: str) -> int:
    found: Any = served.service.metrics.statistics()[name]
    return int(found.get(kind, 0))


def test_a_stream_is_the_answer_in_pieces(served: Served) -> None:
    chunks = chunks_of(served)
    first, *pieces, last = chunks
    expected = reference(served, TURNS, {"a": 1.0}, max_new_tokens=12)
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert first.intrinsic["mixture"] == {"a@1": 1.0}
    assert "".join(one.choices[0].delta.content for one in pieces) == expected.text
    assert len(pieces) == expected.tokens
    assert all(one.choices[0].finish_reason is None for one in (first, *pieces))
    assert last.choices[0].finish_reason == expected.finish_reason
    assert last.choices[0].delta.content is None
    assert last.intrinsic["times"]["total_ms"] > 0
    assert len({(one.id, one.created, one.model, one.object) for one in chunks}) == 1
    assert not any(one.usage for one in chunks)


def test_its_bytes_are_what_openai_sends(served: Served) -> None:
    body = {"model": "b", "messages": TURNS, "max_tokens": 3, "stream": True}
    with served.client() as plain, plain.stream("POST", "/v1/chat/completions", json=body) as got:
        assert got.status_code == 200
        assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert got.headers["x-intrinsic-mixture"] == "b@1:1"
        text = got.read().decode()
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    for event in events[:-2]:
        chunk = json.loads(event.removeprefix("data: "))
        assert chunk["object"] == "chat.completion.chunk"
        assert "usage" not in chunk


def test_usage_comes_last_where_it_is_asked_for(served: Served) -> None:
    *others, last = chunks_of(served, stream_options={"include_usage": True})
    expected = reference(served, TURNS, {"a": 1.0}, max_new_tokens=12)
    assert last.choices == []
    assert last.usage.completion_tokens == expected.tokens
    assert last.usage.prompt_tokens == expected.prompt_tokens
    assert all("usage" in one.model_fields_set and one.usage is None for one in others)


def test_choices_come_side_by_side(served: Served) -> None:
    chunks = chunks_of(served, n=3, seed=5, temperature=1.5)
    texts = ["", "", ""]
    for chunk in chunks:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
    drawn: dict[str, Any] = {"temperature": 1.5, "max_new_tokens": 12}
    assert texts == [
        reference(served, TURNS, {"a": 1.0}, seed=5 + i, **drawn).text for i in range(3)
    ]
    assert sum(chunk.choices[0].finish_reason is not None for chunk in chunks) == 3
    assert sum(chunk.choices[0].delta.role == "assistant" for chunk in chunks) == 3


def test_log_probabilities_come_with_their_pieces(served: Served) -> None:
    chunks = chunks_of(served, logprobs=True, top_logprobs=2)
    told = [one for c in chunks if c.choices[0].logprobs for one in c.choices[0].logprobs.content]
    expected = reference(served, TURNS, {"a": 1.0}, max_new_tokens=12, logprobs=2)
    assert [one.token for one in told] == [one.token for one in expected.logprobs]
    for chunk in chunks:
        if chunk.choices[0].logprobs:
            joined = "".join(one.token for one in chunk.choices[0].logprobs.content)
            assert joined == chunk.choices[0].delta.content


def test_many_clients_with_many_mixtures_get_each_its_own(served: Served) -> None:
    models = ["base", "a", "b", "a:0.5+b:0.5", "c:-1", "d", "a:0.3+c:0.6", "b:2"]
    found: dict[int, str] = {}

    async def ask(asking: openai.AsyncOpenAI, number: int) -> None:
        stream = await asking.chat.completions.create(
            model=models[number % len(models)],
            messages=[{"role": "user", "content": f"number {number // len(models)}"}],
            max_tokens=10,
            stream=True,
        )
        found[number] = ""
        async for chunk in stream:
            found[number] += chunk.choices[0].delta.content or ""

    async def all_at_once() -> None:
        async with (
            openai.AsyncOpenAI(
                base_url=f"{served.url}/v1", api_key=served.api_key, max_retries=0
            ) as asking,
            anyio.create_task_group() as tasks,
        ):
            for number in range(24):
                tasks.start_soon(ask, asking, number)

    anyio.run(all_at_once)
    weights: list[dict[str, float]] = [
        {},
        {"a": 1},
        {"b": 1},
        {"a": 0.5, "b": 0.5},
        {"c": -1},
        {"d": 1},
        {"a": 0.3, "c": 0.6},
        {"b": 2},
    ]
    for number, text in found.items():
        turns: Any = [{"role": "user", "content": f"number {number // len(models)}"}]
        mixture = weights[number % len(models)]
        assert text == reference(served, turns, mixture, max_new_tokens=10).text, number
    until_idle(served)


def test_an_error_before_the_first_byte_is_a_status(served: Served) -> None:
    with client(served) as asking:
        sentence = refused(
            lambda: asking.chat.completions.create(
                model="a", messages=[{"role": "user", "content": "x" * 600}], stream=True
            ),
            400,
            "invalid_request",
        )
    assert "the model reads 512" in sentence


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BackendError("memory ran out in /srv/models/x"), 400, "memory ran out in x"),
        (RuntimeError("a secret"), 500, "the server could not answer this request"),
    ],
)
def test_an_error_in_the_middle_is_an_event_and_the_end(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    words: str,
) -> None:
    async def failing(*args: object, **kwargs: object) -> AsyncGenerator[Piece | Generation, None]:
        yield Piece("half", tokens=3)
        raise error

    monkeypatch.setattr(served.service.system.backend, "pieces", failing)
    failed, written = (
        statistic(served, *of) for of in (("ended_early", "failed"), ("tokens", "completion"))
    )
    got: list[str] = []
    with client(served) as asking:
        stream = asking.chat.completions.create(model="a", messages=TURNS, stream=True)
        with pytest.raises(openai.APIError, match=words) as caught:
            got.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(got) == "half"
    assert "secret" not in str(caught.value)
    body = {"model": "a", "messages": TURNS, "stream": True}
    with served.client() as plain:
        text = plain.post("/v1/chat/completions", json=body).text
    last = json.loads(text.split("\n\n")[-2].removeprefix("data: "))
    assert last["status_code"] == status
    assert last["error"]["message"] == last["message"]
    assert "[DONE]" not in text
    assert sum('"error": {' in event for event in text.split("\n\n")) == 1
    until_idle(served)
    assert statistic(served, "ended_early", "failed") == failed + 2
    assert statistic(served, "tokens", "completion") == written + 2 * 3


def test_a_stream_that_is_left_frees_its_row_and_its_lease(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = [0]
    model: Any = vars(served.service.system.backend)["model"]
    forward = model.forward

    def counted(*args: object, **kwargs: object) -> Any:
        passes[0] += 1
        return forward(*args, **kwargs)

    with client(served) as asking:
        stream = asking.chat.completions.create(
            model="a", messages=TURNS, stream=True, logit_bias={"2": -100}, n=2
        )
        written = statistic(served, "tokens", "completion")
        for _, chunk in zip(range(6), stream, strict=False):
            assert chunk.choices
        monkeypatch.setattr(model, "forward", counted)
        stream.close()
        until_idle(served)
    assert rows(served) == 0
    assert passes[0] < 400
    assert statistic(served, "tokens", "completion") - written >= 4
    metrics = served.service.metrics.text().decode()
    assert 'intrinsic_ended_early_total{why="disconnected"}' in metrics


@pytest.mark.parametrize("streaming", [False, True])
def test_a_client_that_leaves_before_the_first_byte_frees_what_it_had(
    served: Served, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    body = json.dumps({"model": "a+b", "messages": TURNS, "stream": streaming}).encode()
    host, port = served.url.removeprefix("http://").split(":")
    with gated(served, monkeypatch) as gate:
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                + f"Authorization: Bearer {served.api_key}\r\n".encode()
                + b"Content-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            assert gate.entered.wait(10)
            assert served.service.system.manager.get_stats()["leases"] == 1
        gate.opened.set()
        until_idle(served)
        assert rows(served) == 0


def test_the_limit_on_time_ends_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ServerOptions(port=0, request_timeout_s=0.3)
    with (
        serving(tmp_path, options=options) as served,
        client(served) as asking,
        gated(served, monkeypatch) as gate,
        anyio.from_thread.start_blocking_portal() as portal,
    ):

        def open_when_cancelled() -> None:
            """The thread at work goes on to the end of its step once the request was given up."""
            jobs = vars(vars(served.service.system.backend)["_runner"])
            assert gate.entered.wait(10)
            for row in (*jobs["_reader"].rows, *jobs["_waiting"]):
                row.job.cancelled.wait(10)
            gate.opened.set()

        portal.start_task_soon(anyio.to_thread.run_sync, open_when_cancelled)
        sentence = refused(
            lambda: asking.chat.completions.create(model="a", messages=TURNS), 504, "server_error"
        )
        assert "0.3 seconds" in sentence
        until_idle(served)
