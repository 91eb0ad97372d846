"""TabbyAPI's clients manage adapters as they are used to."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.server.asking import fingerprint, output, refused
from tests.server.serving import Served, serving


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tabby")
    with serving(folder, flags={"manager.max_loaded": 3}) as one:
        yield one


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    yield shared
    shared.call(shared.service.system.manager.swap, {})


def load(client: httpx.Client, *loras: dict[str, Any], **more: Any) -> Any:
    answer = client.post("/v1/lora/load", json={"loras": list(loras), **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def active(client: httpx.Client, path: str = "/v1/lora") -> dict[str, float]:
    return {card["id"]: card["scaling"] for card in client.get(path).json()["data"]}


def test_a_card_and_a_list_have_tabbys_form(served: Served) -> None:
    with served.admin() as client:
        load(client, {"name": "a", "scaling": 0.5})
        body = client.get("/v1/lora").json()
    created = body["data"][0].pop("created")
    assert body == {
        "object": "list",
        "data": [{"id": "a", "object": "lora", "owned_by": "intrinsic", "scaling": 0.5}],
    }
    assert isinstance(created, int)
    assert abs(created - time.time()) < 3600


@pytest.mark.parametrize("path", ["/v1/loras", "/v1/lora/list"])
def test_an_admin_key_sees_all_adapters_a_plain_key_the_active_ones(
    served: Served, path: str
) -> None:
    with served.admin() as admin, served.client() as plain:
        assert active(admin, path) == {"a": None, "b": None, "c": None, "d": None}
        assert plain.get(path).json() == {"object": "list", "data": []}
        load(admin, {"name": "b"}, {"name": "c@1", "scaling": -0.25})
        assert active(admin, path) == {"a": None, "b": 1.0, "c": -0.25, "d": None}
        assert active(plain, path) == {"b": 1.0, "c": -0.25}


@pytest.mark.parametrize(
    ("listing", "loading", "unloading"),
    [
        ("/v1/lora", "/v1/lora/load", ("POST", "/v1/lora/unload")),
        ("/v1/loras/active", "/v1/loras/load", ("DELETE", "/v1/loras/active")),
    ],
)
def test_both_route_sets_load_and_unload(
    served: Served, listing: str, loading: str, unloading: tuple[str, str]
) -> None:
    base, weights = output(served), fingerprint(served)
    with served.admin() as client:
        answer = client.post(loading, json={"loras": [{"name": "a"}], "skip_queue": False})
        assert answer.json() == {"success": ["a"], "failure": []}
        assert active(client, listing) == {"a": 1.0}
        assert output(served) == output(served, "a") != base
        answer = client.request(*unloading)
        assert (answer.status_code, answer.json()) == (200, None)
        assert client.get(listing).json() == {"object": "list", "data": []}
        assert client.request(*unloading).status_code == 200  # there is nothing left to unload
    assert output(served) == base
    assert fingerprint(served) == weights


def test_load_replaces_what_was_active_and_mixes_what_is_named(served: Served) -> None:
    with served.admin() as client:
        load(client, {"name": "a"})
        load(client, {"name": "b", "scaling": 0.75}, {"name": "c", "scaling": 0.5})
        assert active(client) == {"b": 0.75, "c": 0.5}
    assert output(served) == output(served, {"b": 0.75, "c": 0.5})


def test_each_adapter_loads_or_fails_by_itself(served: Served, tmp_path: Path) -> None:
    registry = served.service.system.registry
    broken = registry.get_adapter("d").path
    shutil.copytree(broken, tmp_path / "kept")
    (broken / "adapter_model.safetensors").write_bytes(b"\xff" * 100)
    try:
        with served.admin() as client:
            wanted = [{"name": name} for name in ("a", "nobody", "d", "b")]
            assert load(client, *wanted) == {"success": ["a", "b"], "failure": ["nobody", "d"]}
            assert active(client) == {"a": 1.0, "b": 1.0}
    finally:
        shutil.copytree(tmp_path / "kept", broken, dirs_exist_ok=True)


def test_where_none_loads_the_base_is_active_as_success_says(served: Served) -> None:
    base = output(served)
    with served.admin() as client:
        load(client, {"name": "a"})
        assert load(client, {"name": "nobody"}) == {"success": [], "failure": ["nobody"]}
        assert active(client) == {}
    assert output(served) == base


def test_more_adapters_than_fit_are_failures(served: Served) -> None:
    with served.admin() as client:
        said = load(client, *[{"name": name} for name in "abcd"])
        assert said == {"success": ["a", "b", "c"], "failure": ["d"]}
        assert active(client) == {"a": 1.0, "b": 1.0, "c": 1.0}


def test_a_scaling_of_null_is_the_default(served: Served) -> None:
    with served.admin() as client:
        load(client, {"name": "a", "scaling": None})
        assert active(client) == {"a": 1.0}


def test_what_is_not_valid_is_refused_and_changes_nothing(served: Served) -> None:
    with served.admin() as client:
        load(client, {"name": "a"})
        bodies: tuple[Any, ...] = (
            {"loras": []},
            {},
            {"loras": [{"name": "b"}, {"name": "b"}]},
            {"loras": [{"name": "b"}, {"name": "b@1"}]},
            {"loras": [{"name": ""}]},
            {"loras": [{"name": "b\n"}]},
            {"loras": [{"scaling": 1.0}]},
            {"loras": [{"name": "b", "scaling": "much"}]},
            {"loras": [{"name": "b", "scaling": 1e9}]},
            {"loras": "b"},
            [],
        )
        for body in bodies:
            refused(client.post("/v1/lora/load", json=body), 400, "invalid_request")
        for number in ("NaN", "Infinity", "-Infinity"):
            content = f'{{"loras": [{{"name": "b", "scaling": {number}}}]}}'
            answer = client.post(
                "/v1/lora/load", content=content, headers={"Content-Type": "application/json"}
            )
            refused(answer, 400, "invalid_request")
        surrogate = json.dumps({"loras": [{"name": "\ud800"}]})
        answer = client.post(
            "/v1/lora/load", content=surrogate, headers={"Content-Type": "application/json"}
        )
        refused(answer, 400, "invalid_request")
        assert active(client) == {"a": 1.0}


def test_loading_and_unloading_need_the_admin_key(served: Served) -> None:
    calls = [
        ("POST", "/v1/lora/load"),
        ("POST", "/v1/loras/load"),
        ("POST", "/v1/lora/unload"),
        ("DELETE", "/v1/loras/active"),
    ]
    with served.client() as plain, served.client(key=None) as nobody:
        for method, path in calls:
            body = {"loras": [{"name": "a"}]} if path.endswith("load") else None
            refused(plain.request(method, path, json=body), 403, "permission_error")
            refused(nobody.request(method, path, json=body), 401, "authentication_error")
        for path in ("/v1/lora", "/v1/loras", "/v1/lora/list", "/v1/loras/active"):
            assert plain.get(path).status_code == 200
            refused(nobody.get(path), 401, "authentication_error")


@pytest.mark.parametrize("skip_queue", [False, True])
def test_loading_waits_for_what_runs_unless_it_skips_the_queue(
    served: Served, skip_queue: bool
) -> None:
    """The generation in the queue ends when the test says so; a load that waits cannot end."""
    queue = served.service.queue
    started, over = anyio.Event(), anyio.Event()

    async def run() -> None:
        async with queue.place():
            started.set()
            await over.wait()

    async def ask() -> tuple[bool, Any]:
        headers = {"X-Admin-Key": served.admin_key}
        async with (
            httpx.AsyncClient(base_url=served.url, headers=headers, timeout=30) as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(run)
            await started.wait()
            answers: list[httpx.Response] = []

            async def load_a() -> None:
                body = {"loras": [{"name": "a"}], "skip_queue": skip_queue}
                answers.append(await client.post("/v1/loras/load", json=body))

            tasks.start_soon(load_a)
            while not answers and not queue.waiting:
                await anyio.lowlevel.checkpoint()
            waited = bool(queue.waiting)
            before = served.service.system.manager.get_active_adapters()
            assert (before == {}) is waited
            over.set()
        return waited, answers[0].json()

    assert served.call(ask) == (not skip_queue, {"success": ["a"], "failure": []})


def test_the_kill_switch_keeps_active_adapters_from_requests(served: Served) -> None:
    base = output(served)
    with served.admin() as client:
        load(client, {"name": "a"})
        served.call(served.service.system.bus.suspend, "a test")
        try:
            assert output(served) == base
            assert active(client) == {"a": 1.0}
        finally:
            served.call(served.service.system.bus.resume)
    assert output(served) != base


@pytest.mark.parametrize("path", ["/v1/model", "/v1/models/current"])
def test_the_model_has_a_card(served: Served, path: str) -> None:
    with served.client() as client, served.client(key=None) as nobody:
        card = client.get(path).json()
        refused(nobody.get(path), 401, "authentication_error")
    created = card.pop("created")
    assert isinstance(created, int)
    assert card == {
        "id": "tiny-llama",
        "object": "model",
        "owned_by": "intrinsic",
        "parameters": {"max_seq_len": 512},
    }


@pytest.mark.parametrize("mode", ["merged", "auto"])
def test_unloading_restores_merged_weights_too(tmp_path: Path, mode: str) -> None:
    with serving(tmp_path, flags={"manager.mode": mode}) as served, served.admin() as client:
        base, weights = output(served), fingerprint(served)
        load(client, {"name": "a"}, {"name": "b", "scaling": 0.5})
        assert output(served) != base
        if mode == "merged":
            assert fingerprint(served) != weights
        client.delete("/v1/loras/active")
        assert fingerprint(served) == weights
        assert served.service.system.registry.loaded_adapters == ()
        assert output(served) == base


def test_a_body_that_is_not_called_json_is_refused_in_words(served: Served) -> None:
    content = '{"loras": [{"name": "a"}]}'
    with served.admin() as client:
        for kind in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
            answer = client.post("/v1/lora/load", content=content, headers=kind)
            sentence = refused(answer, 400, "invalid_request")
            assert "Content-Type: application/json" in sentence
        assert active(client) == {}
