"""A judge behind HTTP, against a server that runs here."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import pytest

from intrinsic.errors import ConfigError, RoutingError
from intrinsic.routing import Candidate, ChatEndpoint, LLMRouter
from intrinsic.routing.chat_answer import AnswerError, read_answer
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS

KEY = "sk-very-secret"
ASKED = [Candidate(card.name, card) for card in CARDS]


def completion(content: object, logprobs: object = None) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}, "logprobs": logprobs}]}


def spelled(*tokens: tuple[str, float], top: Mapping[str, float] | None = None) -> object:
    alternatives = [{"token": t, "logprob": math.log(p)} for t, p in (top or {}).items()]
    return {
        "content": [
            {"token": token, "logprob": math.log(chance), "top_logprobs": alternatives}
            for token, chance in tokens
        ]
    }


@dataclass
class Server:
    """Answers with `replies` (status, body) one after the other, the last one for ever."""

    replies: list[tuple[int, object]] = field(default_factory=lambda: [(200, completion("1"))])
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def endpoint(self, **options: Any) -> ChatEndpoint:
        return ChatEndpoint(self.url, "judge-1", KEY, **options)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    script = Server()
    script.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            script.requests.append((self.path, dict(self.headers), json.loads(body)))
            script.gate.wait()
            status, reply = script.replies[0]
            if len(script.replies) > 1:
                script.replies.pop(0)
            if status == 0:  # hangs up
                return
            text = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass

    running = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"http://127.0.0.1:{running.server_port}/v1"
    yield script
    script.gate.set()
    running.shutdown()
    thread.join()
    running.server_close()


@both_backends
async def test_the_model_is_asked_for_a_number(server: Server) -> None:
    answer = await server.endpoint().judge("is it\ncurable?", ASKED)
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["logprobs"]) == ("judge-1", 0, True)
    asked = body["messages"][-1]["content"]
    assert "1. medical: medicine: Answers questions about diseases" in asked
    assert "\n0. none of them\n\nQuestion: is it curable?\nNumber:" in asked
    assert answer.confidences == (0.75, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert answer.reasons[0] == "judge-1 answered its number, without a probability"
    assert answer.reasons[1] == "judge-1 answered 1"


@both_backends
async def test_the_confidence_is_the_servers_where_it_gives_one(server: Server) -> None:
    top = {"2": 0.6, "1": 0.3, "The": 0.05, "0": 0.04, "9": 0.01}
    server.replies = [(200, completion("2", spelled(("2", 0.6), top=top)))]
    answer = await server.endpoint().judge("x", ASKED)
    assert answer.confidences[:3] == pytest.approx((0.3, 0.6, 0.0))
    assert answer.reasons[1] == "judge-1 answered its number"


@both_backends
async def test_none_of_them_is_an_answer(server: Server) -> None:
    server.replies = [(200, completion("0"))]
    answer = await server.endpoint().judge("x", ASKED)
    assert set(answer.confidences) == {0.0}
    assert set(answer.reasons) == {"judge-1 answered none of them"}


@both_backends
async def test_a_server_that_knows_no_logprobs_is_asked_plainly_from_then_on(
    server: Server,
) -> None:
    server.replies = [(400, {"error": "unknown field logprobs"}), (200, completion("1"))]
    endpoint = server.endpoint()
    for _ in range(2):
        assert (await endpoint.judge("x", ASKED)).confidences[0] == 0.75
    assert ["logprobs" in body for _, _, body in server.requests] == [True, False, False]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((500, {"error": f"bad key {KEY}"}), r"status 500: {.error.: .bad key \*\*\*"),
        ((401, b""), "status 401: no words"),
        ((400, b"no\n\nsuch model"), "status 400: no such model"),
        ((302, b""), "status 302"),
        ((200, b"<html>hello"), "answered with no JSON: <html>hello"),
        ((200, b"\xff\xfe"), "answered with no JSON"),
        ((200, b"[" * 100_000), "answered with no JSON"),
        ((200, b"x" * 1_100_000), "more than 1,000,000 bytes"),
        ((200, []), "no answer that counts: it gave no text"),
        ((200, {"choices": []}), "it gave no text"),
        ((200, completion(None)), "it gave no text"),
        ((200, completion("perhaps")), "it answered 'perhaps', not one number"),
        ((200, completion("1 or 2")), "it answered '1 or 2', not one number"),
        ((200, completion("7")), "it answered 7; the candidates are 1 to 6"),
        ((200, completion("-1")), "it answered -1; the candidates"),
        ((0, b""), "failed: RemoteProtocolError"),
    ],
)
@both_backends
async def test_what_is_no_answer_is_one_clear_error(
    server: Server, reply: tuple[int, object], words: str
) -> None:
    server.replies = [reply]
    with pytest.raises(RoutingError, match=words) as raised:
        await server.endpoint().judge("x", ASKED)
    assert str(raised.value).startswith(f"the endpoint {server.url}/chat/completions ")
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


@both_backends
async def test_a_server_that_is_slow_or_away(server: Server) -> None:
    server.gate.clear()
    with pytest.raises(RoutingError, match=r"did not answer within 0\.05 s"):
        await server.endpoint(timeout_s=0.05).judge("x", ASKED)
    with pytest.raises(RoutingError, match="failed: ConnectError"):
        await ChatEndpoint("http://127.0.0.1:1", "m").judge("x", ASKED)
    with pytest.raises(RoutingError, match="failed: "):
        await ChatEndpoint("http://no such host", "m").judge("x", ASKED)


# httpx leaves the generator of the request's body to the collector when it is cancelled.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@both_backends
async def test_cancellation_passes_through(server: Server) -> None:
    server.gate.clear()
    with anyio.move_on_after(0.05) as scope:
        await server.endpoint().judge("x", ASKED)
    assert scope.cancelled_caught


@both_backends
async def test_the_key_is_shown_nowhere(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.replies = [(200, completion("1")), (500, KEY.encode()), (200, KEY.encode()), (0, b"")]
    endpoint = server.endpoint()
    await endpoint.judge("x", ASKED)
    told = [repr(endpoint), str(endpoint)]
    for _ in range(3):
        with pytest.raises(RoutingError) as raised:
            await endpoint.judge("x", ASKED)
        told += [repr(raised.value), repr(raised.value.__cause__)]
    assert KEY not in caplog.text + "".join(told)


@both_backends
async def test_it_routes(server: Server) -> None:
    server.replies = [(200, completion("2")), (200, completion("0"))]
    router = LLMRouter(server.endpoint(confidence=0.6))
    await router.warm_up(CARDS)
    assert server.requests == []
    (chosen,) = await router.route("who is liable?", candidates=CARDS)
    assert (chosen.adapter, chosen.confidence) == ("legal", 0.6)
    assert await router.route("lights on", candidates=CARDS) == []


@pytest.mark.parametrize(
    ("content", "logprobs", "number", "probabilities"),
    [
        ("3", None, 3, None),
        (" Candidate 3.\n", None, 3, None),
        ("<think>1 or 2? Not 9.</think>\n\n3", None, 3, None),
        ("3 (number 3)", None, 3, None),
        ("3", spelled(("3", 0.8)), 3, {3: 0.8}),
        ("No. 3", spelled(("No.", 0.5), (" 3", 0.8)), 3, {3: 0.8}),
        ("12", spelled(("1", 0.5), ("2", 0.5)), 12, {12: 0.25}),
        ("3", spelled(("3", 0.5), top={"3": 0.5, " 4": 0.2, "4": 0.1}), 3, {3: 0.5, 4: 0.3}),
        ("3", spelled(("3", 0.8), top={"4": 0.8}), 3, {3: 0.5, 4: 0.5}),
        ("3", spelled(("4", 0.8)), 3, None),
        ("3", {"content": [{"token": "3", "logprob": float("nan")}]}, 3, None),
        ("3", {"content": [{"token": "3", "logprob": 5.0}]}, 3, None),
        ("3", {"content": [{"token": "3", "logprob": -(10**400)}]}, 3, {3: 0.0}),
        ("3", {"content": [{"token": "3"}]}, 3, None),
        ("3", {"content": ["3"]}, 3, None),
        ("3", {"content": []}, 3, None),
        ("3", "yes", 3, None),
    ],
)
def test_answers_in_all_their_forms(
    content: str, logprobs: object, number: int, probabilities: dict[int, float] | None
) -> None:
    answer = read_answer(completion(content, logprobs), 12)
    assert answer.number == number
    assert answer.probabilities == (probabilities and pytest.approx(probabilities))


@pytest.mark.parametrize("content", ["", "3.5", "13", "three", "9" * 10_000, "٣", "</think>"])
def test_what_is_no_number_of_a_candidate_is_refused(content: str) -> None:
    with pytest.raises(AnswerError) as raised:
        read_answer(completion(content), 12)
    assert len(str(raised.value)) < 150


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("https://api.x.ai/openai/v2", "https://api.x.ai/openai/v2/chat/completions"),
        ("https://x/v1/chat/completions", "https://x/v1/chat/completions"),
    ],
)
def test_where_it_asks(base_url: str, url: str) -> None:
    assert ChatEndpoint(base_url, "m").url == url


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("localhost:8000", "m"), {}, "base_url is not valid"),
        (("ftp://x", "m"), {}, "base_url is not valid"),
        (("http://x:port", "m"), {}, "base_url is not valid"),
        (("", "m"), {}, "base_url is not valid"),
        (("http://me:sk-secret@x/v1", "m"), {}, "base_url holds a user name"),
        (("http://x/v1?key=sk-secret", "m"), {}, "base_url holds a user name, a query"),
        (("http://x", " "), {}, "model is ' '; name a model"),
        (("http://x", "m", "sk-secret\n"), {}, "api_key is empty or holds a character"),
        (("http://x", "m", "sk-sécret"), {}, "api_key is empty or holds"),
        (("http://x", "m", ""), {}, "api_key is empty"),
        (("http://x", "m"), {"timeout_s": 0.0}, "timeout_s is 0.0"),
        (("http://x", "m"), {"timeout_s": float("inf")}, "timeout_s is inf"),
        (("http://x", "m"), {"confidence": 1.1}, "confidence is 1.1"),
        (("http://x", "m"), {"max_prompt_chars": 9}, "max_prompt_chars is 9"),
    ],
)
def test_settings_that_are_not_valid(
    arguments: tuple[str, ...], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        ChatEndpoint(*arguments, **options)
    assert "secret" not in str(raised.value)


def test_without_httpx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'intrinsic-lora\[endpoint\]'"):
        ChatEndpoint("http://x", "m")
