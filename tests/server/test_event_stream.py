"""Who listens hears what the bus does, and harms nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from intrinsic.bus import Notice
from intrinsic.server import event_stream
from intrinsic.server.event_stream import Listener
from tests.server.asking import refused
from tests.server.serving import Served, serving


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("stream"), catalog=True) as one:
        yield one


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    for line in lines:
        if line.startswith("event: "):
            yield line.removeprefix("event: "), json.loads(next(lines).removeprefix("data: "))


def test_what_the_bus_does_is_told_without_texts(served: Served) -> None:
    with served.admin() as client, client.stream("GET", "/v1/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines) == ": listening"
        heard = events(lines)
        body = {"vectors": [{"text": "a secret"}], "session": "s", "request_id": "r"}
        with served.client() as other:
            said = other.post("/v1/events", json=body).json()
            name, data = next(heard)
            assert name == "published"
            assert data["event"]["id"] == said["event_id"]
            assert (data["event"]["session"], data["event"]["request_id"]) == ("s", "r")
            assert data["event"]["memory_ids"] == ["memory-1"]
            name, data = next(heard)
            assert (name, data["ok"], data["mixture"]) == ("handled", True, "a@1:1")
            assert "secret" not in json.dumps(data)
        served.call(served.service.system.bus.suspend, "a test")
        name, data = next(heard)
        assert (name, data["reason"]) == ("suspended", "a test")
        catalog = served.service.system.catalog
        assert catalog is not None
        served.call(catalog.deactivate, "b@1")
        name, data = next(heard)
        assert (name, data["adapter"]) == ("adapter.deactivated", "b@1")


def test_a_client_that_goes_is_forgotten_and_so_is_one_more_than_may_listen(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_STREAMS", 1)
    watching = served.service.system.bus._pipeline.observers.watching  # of the module `observers`
    before = {name: len(callbacks) for name, callbacks in watching.items()}
    with served.admin() as client:
        with client.stream("GET", "/v1/events") as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": listening"
            refused(client.get("/v1/events"), 429, "rate_limit_exceeded")

        async def forgotten() -> None:
            with anyio.fail_after(20):
                while served.service.adapters.streams:
                    await anyio.lowlevel.checkpoint()

        served.call(forgotten)
        assert {name: len(callbacks) for name, callbacks in watching.items()} == before
        with client.stream("GET", "/v1/events") as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": listening"


def test_a_stream_ends_when_the_server_is_stopped(served: Served) -> None:
    with served.admin() as client, client.stream("GET", "/v1/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": listening"
        served.call(served.server.stop)
        assert list(lines) == [""]


def test_silence_is_told_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.01)
    with served.admin() as client, client.stream("GET", "/v1/events") as answer:
        lines = answer.iter_lines()
        assert [next(lines), next(lines), next(lines)] == [": listening", "", ": still here"]


def test_who_is_slower_than_the_bus_learns_how_much_was_missed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_WAITING", 3)

    async def listen() -> list[Any]:
        bus = served.service.system.bus
        listener = Listener(served.service)
        for number in range(5):
            bus.tell(Notice("resumed", reason=str(number)))
        found: list[Any] = [await listener.next()]
        bus.tell(Notice("resumed", reason="5"))
        bus.tell(Notice("resumed", reason="6"))
        found += [await listener.next() for _ in range(5)]
        listener.close()
        bus.tell(Notice("resumed", reason="7"))
        monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.01)
        return [*found, await listener.next()]

    found = served.call(listen)
    assert [one and (one[1].get("reason") or one[1]["count"]) for one in found] == [
        *("0", "1", "2", 2, "5"),
        1,
        None,
    ]


def test_a_notice_from_another_thread_arrives(served: Served) -> None:
    async def listen() -> Any:
        listener = Listener(served.service)
        tell = served.service.system.bus.tell
        await anyio.to_thread.run_sync(tell, Notice("resumed", reason="from afar"))
        found = await listener.next()
        listener.close()
        return found

    assert served.call(listen)[1]["reason"] == "from afar"


def test_listening_needs_a_key(served: Served) -> None:
    with served.client(key=None) as nobody:
        answer: httpx.Response = nobody.get("/v1/events")
        refused(answer, 401, "authentication_error")
