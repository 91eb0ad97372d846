"""Stopping: nothing new is taken, what runs may end, what does not is cut off, in words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint

from intrinsic.config.server_options import ServerOptions
from tests.server.asking import refused
from tests.server.serving import Served, serving
from tests.server.strange import add_strange_routes


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    add_strange_routes(monkeypatch)
    with serving(tmp_path, options=ServerOptions(port=0, grace_s=60.0)) as one:
        yield one


def test_a_client_that_leaves_a_stream_frees_its_place(served: Served) -> None:
    with served.client() as client, client.stream("GET", "/strange/stream/hangs") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: first"
        assert served.service.queue.running == 1
    served.call(served.service.running.wait_until_idle)
    assert served.service.queue.running == 0
    text = served.call(served.service.metrics.text).decode()
    assert 'intrinsic_ended_early_total{why="disconnected"}' in text


def test_what_runs_may_end_and_nothing_new_is_taken(served: Served) -> None:
    with served.client() as client, ThreadPoolExecutor() as threads:
        assert client.get("/health").status_code == 200
        streaming = client.stream("GET", "/strange/stream/hangs")
        with streaming as held:  # which keeps the server from ending
            lines = held.iter_lines()
            assert next(lines) == "data: first"
            working = threads.submit(_get, served, "/strange/work")
            _wait_for(served, 2)
            served.call(served.server.stop)
            assert working.result().json() == "done"
            for path in ("/health", "/v1/auth/permission", "/nothing"):
                answer = _get(served, path)
                assert "being stopped" in refused(answer, 503, "server_error")
                assert answer.headers["connection"] == "close"
            assert served.service.queue.running == 1


def test_a_second_word_ends_at_once_what_runs_and_streams_say_so(served: Served) -> None:
    with served.client() as client, ThreadPoolExecutor() as threads:
        hanging = threads.submit(_get, served, "/strange/hang")
        with client.stream("GET", "/strange/stream/hangs") as held:
            lines = held.iter_lines()
            assert next(lines) == "data: first"
            _wait_for(served, 2)
            served.call(served.server.stop)
            served.call(served.server.stop)
            rest = [line for line in lines if line]
        assert json.loads(rest[0].removeprefix("data: "))["status_code"] == 503
        sentence = refused(hanging.result(), 503, "server_error")
    assert "before the answer was complete" in sentence
    assert served.service.queue.running == 0


def test_after_the_grace_what_runs_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_strange_routes(monkeypatch)
    options = ServerOptions(port=0, grace_s=0.05)
    with serving(tmp_path, options=options) as served, ThreadPoolExecutor() as threads:
        hanging = threads.submit(_get, served, "/strange/hang")
        _wait_for(served, 1)
        served.call(served.server.stop)
        refused(hanging.result(), 503, "server_error")
        assert served.service.metrics.statistics()["ended_early"] == {"stopped": 1}


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with serving(tmp_path) as served, served.client() as client:
        assert client.get("/health").status_code == 200
    with pytest.raises(httpx.ConnectError):
        _get(served, "/health")
    assert threading.active_count() <= before


def _get(served: Served, path: str) -> httpx.Response:
    with served.client() as client:
        return client.get(path)


def _wait_for(served: Served, count: int) -> None:
    """Come back when so many requests run."""

    async def until() -> None:
        with anyio.fail_after(20):
            while len(served.service.running) < count:
                await checkpoint()

    served.call(until)
