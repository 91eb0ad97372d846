"""Who leaves while waiting for a turn gives it up, whatever was asked."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import anyio
import pytest
from anyio.lowlevel import checkpoint

from intrinsic.config.server_options import ServerOptions
from tests.server.serving import Served, serving

LONG = {
    "model": "a",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 490,
    "stream": True,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ServerOptions(port=0, grace_s=2.0, max_running=1, max_queued=2)
    with serving(tmp_path_factory.mktemp("served"), options=options) as one:
        yield one


def ask(served: Served, path: str, body: object) -> socket.socket:
    """Send a request with the admin key, and nothing else."""
    content = json.dumps(body)
    head = f"Content-Type: application/json\r\nContent-Length: {len(content)}"
    host, port = served.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {served.admin_key}\r\n"
        f"{head}\r\n\r\n{content}".encode()
    )
    return client


def wait_until(served: Served, met: Callable[[], bool]) -> None:
    async def until() -> None:
        with anyio.fail_after(20):
            while not met():
                await checkpoint()

    served.call(until)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", LONG),
        ("/v1/completions", {"prompt": "hello", "model": "a"}),
        ("/v1/embeddings", {"input": "hello"}),
        ("/v1/loras/load", {"loras": [{"name": "a"}]}),
        ("/v1/lora/load", {"loras": [{"name": "a"}]}),
        ("/v1/route", {"text": "hello"}),
        ("/v1/events", {"vectors": [{"text": "hello"}]}),
        ("/v1/events/dead-letters/replay", {}),
    ],
)
def test_who_leaves_while_waiting_gives_up_the_turn(
    served: Served, path: str, body: object
) -> None:
    queue, running = served.service.queue, served.service.running
    with _holding(served):
        before = served.service.metrics.statistics()["ended_early"]
        client = ask(served, path, body)
        wait_until(served, lambda: queue.waiting == 1)
        client.close()
        wait_until(served, lambda: queue.waiting == 0 and len(running) == 1)
        assert queue.running == 1  # who had the turn has it still
        assert served.service.metrics.statistics()["ended_early"] != before
    wait_until(served, lambda: queue.running == 0 and not len(running))
    assert not served.service.system.manager.get_active_adapters()


def _holding(served: Served) -> ExitStack:
    """Take the only place until the block ends."""
    held, left = ExitStack(), anyio.Event()

    async def hold() -> None:
        with served.service.running.one(60.0):
            async with served.service.queue.place():
                await left.wait()

    served.portal.start_task_soon(hold)
    wait_until(served, lambda: served.service.queue.running == 1)
    held.callback(served.call, left.set)
    return held


def test_a_queue_that_is_full_is_said_to_all(served: Served) -> None:
    with _holding(served), ExitStack() as held, served.admin() as client:
        for _ in range(2):
            held.callback(ask(served, "/v1/chat/completions", LONG).close)
        wait_until(served, lambda: served.service.queue.waiting == 2)
        for path, body in (
            ("/v1/route", {"text": "hello"}),
            ("/v1/loras/load", {"loras": [{"name": "a"}]}),
            ("/v1/embeddings", {"input": "hello"}),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code == 429, answer.text
            assert answer.headers["retry-after"] == "1"
