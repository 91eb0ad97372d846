"""Every request has an id, a limit and one form of refusal, whoever asks."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from intrinsic.config.server_options import ServerOptions
from tests.server.asking import refused
from tests.server.serving import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ServerOptions(port=0, max_body_bytes=1000, cors_origins=("https://page.example",))
    with serving(tmp_path_factory.mktemp("served"), options=options) as one:
        yield one


def test_health_needs_no_key(served: Served) -> None:
    with served.client(key=None) as client:
        answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "healthy", "model": "tiny-llama", "issues": []}


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key", "X-Admin-Key"])
def test_any_of_the_headers_carries_either_key(served: Served, header: str) -> None:
    with served.client(key=None) as client:
        for key, permission in ((served.api_key, "api"), (served.admin_key, "admin")):
            value = f"Bearer {key}" if header == "Authorization" else key
            answer = client.get("/v1/auth/permission", headers={header: value})
            assert answer.json() == {"permission": permission}
        sentence = refused(
            client.get("/v1/auth/permission", headers={header: "Bearer of nothing"}),
            401,
            "authentication_error",
        )
        assert "of nothing" not in sentence


def test_without_a_key_nothing_but_health_and_documentation(served: Served) -> None:
    with served.client(key=None) as client:
        answer = client.get("/v1/auth/permission")
        refused(answer, 401, "authentication_error")
        assert answer.headers["www-authenticate"] == "Bearer"
        refused(client.get("/metrics"), 401, "authentication_error")
        assert client.get("/openapi.json").status_code == 200


def test_a_key_that_is_no_ascii_is_not_known(served: Served) -> None:
    with served.client(key=None) as client:
        answer = client.get("/v1/auth/permission", headers=[(b"X-API-Key", "schlüssel".encode())])
    refused(answer, 401, "authentication_error")


def test_unknown_routes_and_methods(served: Served) -> None:
    with served.client() as client:
        sentence = refused(client.get("/v2/nothing"), 404, "not_found")
        assert sentence == "there is no such route; /docs lists all"
        answer = client.delete("/health")
        sentence = refused(answer, 405, "invalid_request")
        assert sentence == "this route does not take that method; /docs lists those that it takes"
        assert answer.headers["allow"] == "GET"


def test_every_answer_has_the_id_of_its_request(served: Served) -> None:
    with served.client() as client:
        own = client.get("/health", headers={"X-Request-Id": "mine-7"})
        assert own.headers["x-request-id"] == "mine-7"
        made = {client.get("/v2/nothing").headers["x-request-id"] for _ in range(3)}
        assert len(made) == 3
        insane = client.get("/health", headers={"X-Request-Id": "a" * 200})
        assert len(insane.headers["x-request-id"]) == 32


def test_a_body_that_is_too_large_is_refused_before_it_is_read(served: Served) -> None:
    with served.client() as client:
        sentence = refused(client.post("/v1/x", content=b"x" * 1001), 413, "invalid_request")
    assert "1000 bytes" in sentence


@pytest.mark.parametrize("chunked", [False, True])
def test_of_who_has_no_key_a_large_body_is_not_read(tmp_path: Path, chunked: bool) -> None:
    body = b'"' + b"x" * 100_000
    with serving(tmp_path) as served, served.client(key="of-nobody-whom-we-know") as client:
        content = iter([body]) if chunked else body
        answer = client.post("/v1/chat/completions", content=content)
        refused(answer, 401, "authentication_error")
        assert answer.headers["connection"] == "close"
        small = client.post("/v1/chat/completions", json={})
        refused(small, 401, "authentication_error")
        assert "connection" not in small.headers
        known = client.post("/v1/x", content=body, headers={"X-API-Key": served.api_key})
        refused(known, 404, "not_found")


@pytest.mark.parametrize("length", ["-1", "1e3", "many", "²"])
def test_a_length_that_is_no_number_harms_nobody(served: Served, length: str) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.putrequest("POST", "/v1/x")
    connection.putheader("Content-Length", length.encode())
    connection.endheaders()
    with (
        contextlib.closing(connection),
        contextlib.suppress(http.client.HTTPException),  # what is no HTTP need not be answered
        connection.getresponse() as answer,
    ):
        assert 400 <= answer.status < 500


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nshort",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=["nonsense", "half", "header", "path", "short", "chunks", "upgrade", "tls"],
)
def test_what_is_no_request_harms_nobody(served: Served, sent: bytes) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    connected = socket.create_connection((host, int(port)), timeout=10)
    with connected as raw, contextlib.suppress(OSError):
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
        assert b"Traceback" not in answer
    with served.client(key=None) as client:
        assert client.get("/health").status_code == 200
    served.call(served.service.running.wait_until_idle)


def test_pages_of_configured_origins_may_ask_and_no_others(served: Served) -> None:
    ask = {"Access-Control-Request-Method": "GET"}
    with served.client(key=None) as client:
        good = client.options("/health", headers={"Origin": "https://page.example", **ask})
        assert good.headers["access-control-allow-origin"] == "https://page.example"
        bad = client.options("/health", headers={"Origin": "https://evil.example", **ask})
        assert "access-control-allow-origin" not in bad.headers


def test_without_keys_only_this_machine_by_its_own_name(tmp_path: Path) -> None:
    options = ServerOptions(port=0, auth=False)
    with (
        serving(tmp_path, keys=None, options=options) as served,
        served.client(key=None) as client,
    ):
        assert client.get("/v1/auth/permission").json() == {"permission": "admin"}
        for headers in (
            {"Host": "evil.example"},
            {"Host": "evil.example:8000"},
            {"Host": ""},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        ):
            refused(client.get("/health", headers=headers), 403, "permission_error")
        local = {"Host": "localhost:9", "Origin": "http://[::1]:3000"}
        assert client.get("/health", headers=local).status_code == 200
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert client.get("/docs", headers=followed).status_code == 200


def test_the_documentation_names_every_answer(served: Served) -> None:
    with served.client(key=None) as client:
        document: dict[str, Any] = client.get("/openapi.json").json()
    text = json.dumps(document)
    assert '"422"' not in text
    assert "HTTPValidationError" not in text
    permission = document["paths"]["/v1/auth/permission"]["get"]
    assert {"200", "401", "500"} <= permission["responses"].keys()
    assert permission["security"] == [{"bearer": []}, {"x-api-key": []}, {"x-admin-key": []}]
    assert "401" not in document["paths"]["/health"]["get"]["responses"]


def test_metrics_count_what_was_answered_and_have_no_path_of_a_client(served: Served) -> None:
    with served.client() as client:
        client.get("/health")
        client.get("/v2/of-a-client")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'intrinsic_requests_total{method="GET",route="/health",status="200"}' in answer.text
    assert 'route="unmatched",status="404"' in answer.text
    assert "of-a-client" not in answer.text
    for name in ("queue_waiting", "tier_bytes", "tier_evictions_total", "bus_dead_letters"):
        assert f"intrinsic_{name}" in answer.text


def test_the_documentation_for_people_loads_nothing_from_elsewhere(served: Served) -> None:
    with served.client(key=None) as client:
        answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"https?:", answer.text)
