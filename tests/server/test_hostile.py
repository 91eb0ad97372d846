"""Bytes that no client should send, clients that leave at the worst moment, and all at once.

Whatever comes, the server answers in its one form or closes the connection, holds nothing for
those who left, tells nothing about the machine, and answers the next request as if nothing was.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest
from fastapi.routing import APIRoute

from intrinsic.config.server_options import ServerOptions
from intrinsic.server.app import ROUTERS
from tests.backends.batching import idle
from tests.server.serving import Served, serving

LIMIT = 64 * 1024
CHAT = "/v1/chat/completions"
HELLO = {"model": "a", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
LONGEST_S = 20.0
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "an array": b"[]",
    "null": b"null",
    "a number": b"1e999",
    "NaN": b'{"max_tokens": NaN, "temperature": Infinity, "scaling": -Infinity}',
    "a long number": b'{"max_tokens": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 20_000,
    "deep and closed": b'{"messages": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "no UTF-8": b'{"model": "\xff\xfe\x80", "name": "\xc3("}',
    "half a character": rb'{"model": "\ud800", "name": "\ud800", "lora_name": "\udfff"}',
    "zero bytes": rb'{"model": "\u0000", "name": "\u0000", "lora_name": "a\u0000b"}',
    "keys twice": b'{"model": "a", "model": {"b": 1}}',
    "another encoding": '{"model": "a"}'.encode("utf-16"),
    "types of all kinds": json.dumps(
        {name: {"a": [None, True, -0.0, 1e308]} for name in ("model", "messages", "loras", "name")}
    ).encode(),
}
NAMES = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/../b",
    "a@",
    "@1",
    "a@../x",
    "a\nb",
    "a\x00b",
    "\u202egnp",
    "é" * 200,
    "%2e%2e%2f",
    "';drop table adapters;--",
    "{{7*7}}",
    "a" * 100_000,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("besieged")
    options = ServerOptions(
        port=0, grace_s=2.0, max_body_bytes=LIMIT, request_timeout_s=10.0, folders=(folder,)
    )
    with serving(folder, options=options, context=256, catalog=True) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_is_left(served: Served) -> Iterator[None]:
    """After every test: the answer to a plain request is what it was, and nobody holds anything."""
    before = answer_of(served)
    yield
    assert answer_of(served) == before
    wait_until_nothing_is_held(served)


def answer_of(served: Served) -> str:
    with served.client() as client:
        answer = client.post(CHAT, json=HELLO)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def held(served: Served) -> dict[str, int]:
    """What requests hold; nothing is left out that one could."""
    system, queue = served.service.system, served.service.queue
    found = {
        "requests": len(served.service.running),
        "running": queue.running,
        "waiting": queue.waiting,
        "leases": system.manager.get_stats()["leases"],
        "rows": not idle(system.backend),  # type: ignore[arg-type]
    }
    return {name: count for name, count in found.items() if count}


def wait_until_nothing_is_held(served: Served) -> None:
    async def wait() -> dict[str, int]:
        with anyio.move_on_after(LONGEST_S):
            while held(served):
                await anyio.wait_all_tasks_blocked()
        return held(served)

    assert served.call(wait) == {}


def routes(method: str) -> list[str]:
    return sorted(
        {
            route.path_format
            for router in ROUTERS
            for route in router.routes
            if isinstance(route, APIRoute) and method in (route.methods or ())
        }
    )


def check_form(answer: httpx.Response, served: Served) -> None:
    """Anything but a fault of the server's, told in the one form, without a path of the machine."""
    assert answer.status_code < 500 or answer.status_code == 504, answer.text
    if answer.status_code >= 400:
        body = answer.json()
        assert body.keys() == {"status_code", "message", "detail", "error"}
        assert body["status_code"] == answer.status_code
        assert body["message"] == body["detail"] == body["error"]["message"]
        assert body["message"].strip()
    home = str(served.service.options.folders[0].parent)
    assert home not in answer.text
    assert "Traceback" not in answer.text
    assert 'File "' not in answer.text


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_of_any_bytes_is_answered_in_words_on_every_route(
    body: bytes, served: Served
) -> None:
    with served.admin() as client:
        client.headers["Content-Type"] = "application/json"
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for path in routes(method):
                answer = client.request(method, path.format_map(_Named("nobody")), content=body)
                check_form(answer, served)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "\xff"])
def test_a_body_of_another_kind_is_answered_in_words(kind: str, served: Served) -> None:
    with served.admin() as client:
        for path in routes("POST"):
            headers = [(b"Content-Type", kind.encode("latin-1"))]
            path = path.format_map(_Named("nobody"))
            check_form(client.post(path, content=b"a=1&b=2", headers=headers), served)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_of_any_text_is_answered_in_words(name: str, served: Served) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {**HELLO, "model": name}),
        (CHAT, {**HELLO, "lora": {name: 1.0}}),
        (CHAT, {**HELLO, "lora": {"session": name, "exclude": [name]}}),
        ("/v1/completions", {"model": name, "prompt": "hello", "max_tokens": 2}),
        ("/v1/lora/load", {"loras": [{"name": name, "scaling": 1.0}]}),
        ("/v1/load_lora_adapter", {"lora_name": name, "lora_path": name}),
        ("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": name}),
        ("/v1/unload_lora_adapter", {"lora_name": name}),
        ("/v1/route", {"text": "hello", "exclude": [name]}),
        ("/v1/events", {"vectors": [{"text": "hello", "lora_adapter_path": name}]}),
    ]
    with served.admin() as client:
        for path, body in asked:
            answer = client.post(path, content=json.dumps(body).encode())
            check_form(answer, served)
            assert "root:" not in answer.text
        for path in (path for path in routes("GET") if "{" in path):
            for written in (httpx.QueryParams({"x": name}).__str__()[2:], "..%2f..%2fetc%2fpasswd"):
                check_form(client.get(path.format_map(_Named(written[:2000]))), served)
        assert client.post("/v1/lora/unload").status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "//", "/v1", "/v1/", "/v1/../v1/models", "/%00", "/" + "a" * 5000]
)
def test_an_unknown_path_is_answered_in_words(path: str, served: Served) -> None:
    with served.client() as client:
        for method in ("GET", "POST", "DELETE", "TRACE", "BREW"):
            check_form(client.request(method, served.url + path), served)


KEY = b"Authorization: Bearer plain-key-of-the-tests\r\n"
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + KEY
RAW: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "no end of the head": b"GET / HTTP/1.1\r\nA: " + b"b" * 200_000,
    "a length that is none": HEAD + b"Content-Length: \xb2\r\n\r\n{}",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "a length beyond the limit": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "parts without an end": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
    "parts that are none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a header with a line break": b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\rb\r\n\r\n",
    "an id to split the answer": b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: a%0aB\r\n\r\n",
    "an old version": b"GET /health HTTP/0.9\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("sent", RAW.values(), ids=RAW.keys())
def test_bytes_that_are_no_request_are_refused_or_the_connection_is_closed(
    sent: bytes, served: Served
) -> None:
    with connected(served) as wire:
        try:
            wire.sendall(sent)
            wire.shutdown(socket.SHUT_WR)
            got = everything(wire)
        except OSError as error:  # the server had closed before all was sent
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                raise
            return
    assert got == b"" or got.startswith(b"HTTP/1.1 "), got[:200]
    assert not got.startswith(b"HTTP/1.1 5"), got[:500]
    assert b"Traceback" not in got


def test_a_body_beyond_the_limit_is_refused_however_it_comes(served: Served) -> None:
    large = b'{"model": "' + b"a" * LIMIT + b'"}'

    def parts() -> Iterator[bytes]:
        for _ in range(LIMIT // 1024 + 2):
            yield b" " * 1024

    with served.client() as client:
        for content in (large, parts()):
            answer = client.post(CHAT, content=content)
            assert answer.status_code == 413
            check_form(answer, served)


@pytest.mark.parametrize(
    "key", [KEY, b"Authorization: Bearer nobody's\r\n"], ids=["known", "stranger"]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_who_sends_all_before_it_listens_hears_why_a_body_is_refused(
    chunked: bool, key: bytes, served: Served
) -> None:
    length = 12 * 1024 * 1024  # more than a connection holds that nobody reads
    said = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % length
    head = b"POST %b HTTP/1.1\r\nHost: x\r\n%b%b\r\n\r\n" % (CHAT.encode(), key, said)
    body = b" " * length
    with connected(served) as wire:
        wire.sendall(head + (b"%x\r\n%b\r\n0\r\n\r\n" % (length, body) if chunked else body))
        answer = everything(wire)
    assert answer.startswith(b"HTTP/1.1 413 " if key == KEY else b"HTTP/1.1 401 ")


def test_two_requests_in_one_packet_are_both_answered(served: Served) -> None:
    one = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + KEY
    with connected(served) as wire:
        wire.sendall(one + b"\r\n" + one + b"Connection: close\r\n\r\n")
        assert everything(wire).count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [0, 1, 30, 2000])
def test_clients_that_leave_at_any_moment_leave_nothing_behind(
    after: int, stream: bool, served: Served
) -> None:
    body = json.dumps({**HELLO, "stream": stream, "max_tokens": 200, "n": 2, "seed": 1}).encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def leave() -> None:
        with connected(served) as wire:
            wire.sendall(request)
            if after:
                wire.settimeout(0.2)
                with suppress(TimeoutError):
                    wire.recv(after)

    threads = [threading.Thread(target=leave) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_S)
    wait_until_nothing_is_held(served)


def test_clients_that_leave_in_the_middle_of_a_body_leave_nothing_behind(served: Served) -> None:
    for _ in range(8):
        with connected(served) as wire:
            wire.sendall(HEAD + b'Content-Length: 5000\r\n\r\n{"model":')
    wait_until_nothing_is_held(served)


def test_many_connections_that_say_nothing_hold_nobody_up(served: Served) -> None:
    silent = [connected(served) for _ in range(100)]
    try:
        assert answer_of(served)
    finally:
        for wire in silent:
            wire.close()


class _Named(dict[str, str]):
    """Every parameter of a path."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __missing__(self, name: str) -> str:
        return self._value


def connected(served: Served) -> socket.socket:
    host, _, port = served.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=LONGEST_S)


def everything(wire: socket.socket) -> bytes:
    parts = []
    while part := wire.recv(65536):
        parts.append(part)
    return b"".join(parts)
