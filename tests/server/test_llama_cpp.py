"""llama.cpp's clients switch adapters by number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.asking import output, refused
from tests.server.serving import Served, serving

PATH = "/lora-adapters"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("llama")) as one:
        yield one


@pytest.fixture
def client(shared: Served) -> Iterator[httpx.Client]:
    with shared.admin() as one:
        yield one
        shared.call(shared.service.system.manager.swap, {})


def scales(client: httpx.Client) -> dict[int, float]:
    return {one["id"]: one["scale"] for one in client.get(PATH).json() if one["scale"]}


def test_adapters_are_listed_with_number_path_and_scale(client: httpx.Client) -> None:
    assert client.get(PATH).json() == [
        {"id": number, "path": name, "scale": 0.0} for number, name in enumerate("abcd")
    ]


def test_scales_are_set_for_those_named_and_off_for_the_others(
    shared: Served, client: httpx.Client
) -> None:
    base = output(shared)
    answer = client.post(PATH, json=[{"id": 0, "scale": 0.2}, {"id": 2, "scale": -0.8}])
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert scales(client) == {0: 0.2, 2: -0.8}
    assert output(shared) == output(shared, {"a": 0.2, "c": -0.8}) != base
    client.post(PATH, json=[{"id": 1, "scale": 1}, {"id": 2, "scale": 0.0}, {"id": 3}])
    assert scales(client) == {1: 1.0}
    client.post(PATH, json=[])
    assert scales(client) == {}
    assert output(shared) == base


@pytest.mark.parametrize(
    "body",
    [
        {},
        "a",
        [{"id": 4, "scale": 1.0}],
        [{"id": 0, "scale": 1.0}, {"id": 99, "scale": 1.0}],
        [{"id": -1, "scale": 1.0}],
        [{"scale": 1.0}],
        [{"id": 0, "scale": "x"}],
        [{"id": 0.5, "scale": 1}],
        [0],
    ],
)
def test_what_is_not_valid_is_refused_whole(client: httpx.Client, body: Any) -> None:
    client.post(PATH, json=[{"id": 3, "scale": 0.5}])
    refused(client.post(PATH, json=body), 400, "invalid_request")
    assert scales(client) == {3: 0.5}


def test_setting_scales_needs_the_admin_key(shared: Served, client: httpx.Client) -> None:
    with shared.client() as plain:
        assert plain.get(PATH).status_code == 200
        refused(plain.post(PATH, json=[]), 403, "permission_error")


def test_what_one_protocol_sets_the_others_show(client: httpx.Client) -> None:
    client.post(PATH, json=[{"id": 1, "scale": 0.75}])
    (card,) = client.get("/v1/lora").json()["data"]
    assert (card["id"], card["scaling"]) == ("b", 0.75)
    client.post("/v1/loras/load", json={"loras": [{"name": "d", "scaling": 2}]})
    assert scales(client) == {3: 2.0}
    client.delete("/v1/loras/active")
    assert scales(client) == {}


def test_a_number_stays_and_is_not_given_again(client: httpx.Client, shared: Served) -> None:
    load, unload = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
    known = client.get(PATH).json()
    for number in (len(known), len(known) + 1):
        client.post(load, json={"lora_name": "aa", "lora_path": "a"})
        listed = client.get(PATH).json()
        assert listed == [*known, {"id": number, "path": "a", "scale": 0.0}]
        assert shared.service.adapters.ids.id_of("aa") == number
        client.post(unload, json={"lora_name": "aa"})
        assert client.get(PATH).json() == known
        refused(client.post(PATH, json=[{"id": number}]), 400, "invalid_request")
