"""Memories published over HTTP, what became of them, and the kill switch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from intrinsic.events import InjectionChannel, MemoryEvent
from tests import tiny
from tests.server.asking import output, refused
from tests.server.serving import Served, serving

CHANNEL = InjectionChannel.KNN_LM


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("events")) as one:
        yield one


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as one:
        yield one


def publish(client: httpx.Client, *texts: str, **more: Any) -> Any:
    body = {"vectors": [{"text": text} for text in texts], **more}
    answer = client.post("/v1/events", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_memories_are_routed_and_the_receipt_says_so(client: httpx.Client) -> None:
    said = publish(client, "about b", session="s", request_id="r")
    assert said["ok"] is True
    assert [one["ok"] for one in said["results"]] == [True]
    receipt = said["receipt"]
    assert receipt["request_id"] == "r"
    assert receipt["event_id"] == said["event_id"]
    assert receipt["mixture"] == {"b@1": 1.0}
    assert [one["adapter"] for one in receipt["selections"]] == ["b"]


def test_what_is_published_can_be_generated_under(served: Served, client: httpx.Client) -> None:
    publish(client, "about c", request_id="to be held")
    receipt = served.service.system.manager.receipt("to be held")
    assert output(served, receipt) == output(served, "c")


def test_metadata_says_how_it_is_routed(client: httpx.Client) -> None:
    def mixture(**metadata: Any) -> list[str]:
        return list(publish(client, "a b c", metadata=metadata)["receipt"]["mixture"])

    assert mixture() == ["a@1", "b@1"]
    assert mixture(top_k=1) == ["a@1"]
    assert mixture(top_k=3) == ["a@1", "b@1", "c@1"]
    assert mixture(threshold=0.95) == []
    said = publish(client, "a", metadata={"shadow": True})
    assert (said["shadow"], said["receipt"]["mixture"]) == (True, {})
    for metadata in ({"top_k": 0}, {"threshold": "x"}, {"exclude": [1]}):
        body = {"vectors": [{"text": "a"}], "metadata": metadata}
        refused(client.post("/v1/events", json=body), 400, "invalid_request")


def test_other_channels_have_their_handlers_and_a_failure_is_in_the_report(
    served: Served, client: httpx.Client
) -> None:
    seen: list[MemoryEvent] = []

    async def takes(event: MemoryEvent) -> str:
        seen.append(event)
        return "a value of its own"

    async def fails(event: MemoryEvent) -> None:
        raise ValueError("/etc/passwd is not for clients")

    bus = served.service.system.bus
    subscriptions = [
        bus.register_handler(CHANNEL, one, name=one.__name__) for one in (takes, fails)
    ]
    vector = {"text": "x", "memory_id": "m", "relevance": 0.5, "strength": 2, "decay": 0.25}
    body = {"channel": "knn_lm", "vectors": [vector, {"text": "y"}], "metadata": {"k": [1, "z"]}}
    said = client.post("/v1/events", json=body).json()
    for subscription in subscriptions:
        subscription.cancel()
    assert said["ok"] is False
    assert said["receipt"] is None
    assert [(one["handler"], one["ok"]) for one in said["results"]] == [
        ("takes", True),
        ("fails", False),
    ]
    assert said["results"][1]["error"] == "ValueError; the server's log says more"
    (event,) = seen
    first, second = event.vectors
    assert (first.memory_id, first.relevance_score, first.injection_strength) == ("m", 0.5, 2.0)
    assert (first.decay_factor, second.memory_id) == (0.25, "memory-2")
    assert event.metadata == {"k": [1, "z"]}


def test_dead_letters_are_listed_and_replayed(served: Served) -> None:
    told_to_fail = True

    async def sometimes(event: MemoryEvent) -> None:
        if told_to_fail:
            raise ValueError("no")

    bus = served.service.system.bus
    subscription = bus.register_handler(CHANNEL, sometimes, name="sometimes")
    try:
        with served.admin() as admin:
            said = publish(admin, "x", channel="knn_lm", session="s")
            letters = admin.get("/v1/events/dead-letters").json()["data"]
            (letter,) = [one for one in letters if one["event_id"] == said["event_id"]]
            assert (letter["handler"], letter["attempts"], letter["session"]) == (
                "sometimes",
                1,
                "s",
            )
            again = admin.post("/v1/events/dead-letters/replay", json={"id": letter["id"]})
            assert again.json()["data"][0]["ok"] is False
            told_to_fail = False
            again = admin.post("/v1/events/dead-letters/replay", json={"id": letter["id"]})
            assert again.json()["data"][0]["ok"] is True
            left = admin.get("/v1/events/dead-letters").json()["data"]
            assert letter["id"] not in {one["id"] for one in left}
            answer = admin.post("/v1/events/dead-letters/replay", json={"id": letter["id"]})
            refused(answer, 404, "not_found")
            assert admin.post("/v1/events/dead-letters/replay").status_code == 200
    finally:
        subscription.cancel()


def test_an_adapter_may_be_named_by_a_path_within_the_folders_with_an_admin_key(
    served: Served, client: httpx.Client, tmp_path: Path
) -> None:
    registry = served.service.system.registry
    folder = registry.get_adapter("a").path.parent
    outside = tiny.write_adapter(tmp_path / "outside", tiny.llama(), seed=31)
    tiny.write_adapter(folder / "named", tiny.llama(), seed=30)
    body = {"vectors": [{"text": "about b", "lora_adapter_path": "named"}]}
    refused(client.post("/v1/events", json=body), 403, "permission_error")
    with served.admin() as admin:
        said = admin.post("/v1/events", json=body).json()
        assert said["receipt"]["mixture"] == {"named@1": 1.0}
        for path in (str(outside), "../../outside", "nothing"):
            body = {"vectors": [{"text": "a", "lora_adapter_path": path}]}
            refused(admin.post("/v1/events", json=body), 404, "not_found")
        (folder / "broken").mkdir()
        (folder / "broken" / "adapter_config.json").write_text("{")
        body = {"vectors": [{"text": "about b", "lora_adapter_path": "broken"}]}
        said = admin.post("/v1/events", json=body)
        assert said.json()["receipt"]["skipped"]
        assert str(folder) not in said.text


def test_the_kill_switch(served: Served, client: httpx.Client) -> None:
    with served.admin() as admin:
        state = admin.post("/v1/bus/suspend", json={"reason": "a drill"}).json()
        assert state["suspended"] == "a drill"
        try:
            said = publish(client, "about a")
            assert (said["suspended"], said["receipt"], said["ok"]) == ("a drill", None, False)
        finally:
            state = admin.post("/v1/bus/resume").json()
        assert state["suspended"] is None
        assert admin.get("/v1/bus").json()["statistics"]["suspended"] == 1
        refused(admin.post("/v1/bus/suspend", json={"reason": ""}), 400, "invalid_request")
    assert publish(client, "about a")["receipt"]["mixture"] == {"a@1": 1.0}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/events"),
        ("GET", "/v1/events/dead-letters"),
        ("POST", "/v1/events/dead-letters/replay"),
        ("GET", "/v1/bus"),
        ("POST", "/v1/bus/suspend"),
        ("POST", "/v1/bus/resume"),
    ],
)
def test_what_is_for_admins(client: httpx.Client, method: str, path: str) -> None:
    body = {"reason": "x"} if path.endswith("suspend") else None
    refused(client.request(method, path, json=body), 403, "permission_error")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"vectors": []},
        {"vectors": [{}]},
        {"vectors": [{"text": 1}]},
        {"vectors": [{"text": "a", "relevance": 1e99}]},
        {"vectors": [{"text": "a", "decay": 2}]},
        {"vectors": [{"text": "a"}], "channel": "nothing"},
        {"vectors": [{"text": "a", "channel": "nothing"}]},
        {"vectors": [{"text": "a"}], "session": "x" * 300},
        {"vectors": [{"text": "a"}], "metadata": {"a": {"b": 1}}},
        {"vectors": [{"text": "a"}] * 300},
        {"vectors": [{"text": "a", "relevence": 1}]},
        {"vectors": [{"text": "a"}], "sesion": "1"},
    ],
)
def test_what_is_not_valid_is_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    refused(client.post("/v1/events", json=body), 400, "invalid_request")
