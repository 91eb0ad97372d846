"""The active adapters are those of requests that ask for nothing, and of nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.server.asking import fingerprint, refused
from tests.server.serving import Served, serving


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("active")) as one:
        yield one


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    yield shared
    shared.call(shared.service.system.manager.swap, {})


def text(client: httpx.Client, model: str | None = None, **more: object) -> str:
    body = {"prompt": "tell me", "max_tokens": 12, "temperature": 0, **more}
    answer = client.post("/v1/completions", json=body if model is None else body | {"model": model})
    assert answer.status_code == 200, answer.text
    said: str = answer.json()["choices"][0]["text"]
    return said


def test_who_asks_for_nothing_gets_what_is_active(served: Served) -> None:
    with served.admin() as client:
        base, mixed = text(client, "base"), text(client, "a:0.5+b:0.25")
        assert text(client) == text(client, "tiny-llama") == base != mixed
        loras = [{"name": "a", "scaling": 0.5}, {"name": "b", "scaling": 0.25}]
        client.post("/v1/lora/load", json={"loras": loras})
        assert text(client) == text(client, "tiny-llama") == mixed
        assert text(client, "base") == base
        assert text(client, "c") not in (base, mixed)
        assert text(client, "auto") == base  # which fits no adapter
        client.delete("/v1/loras/active")
        assert text(client) == base


def test_what_is_loaded_at_run_time_can_be_asked_for_until_it_is_unloaded(served: Served) -> None:
    with served.admin() as client:
        load = {"lora_name": "mine", "lora_path": "c"}
        assert client.post("/v1/load_lora_adapter", json=load).status_code == 200
        assert "mine" in [card["id"] for card in client.get("/v1/models").json()["data"]]
        assert text(client, "mine") == text(client, "c")
        client.post("/v1/unload_lora_adapter", json={"lora_name": "mine"})
        assert "mine" not in [card["id"] for card in client.get("/v1/models").json()["data"]]
        body = {"prompt": "x", "model": "mine"}
        refused(client.post("/v1/completions", json=body), 404, "not_found")


def test_adapters_come_and_go_and_every_answer_is_that_of_its_mixture(served: Served) -> None:
    models = ["base", "a", "b", "c:0.5", "a:0.7+b:0.3", "d"]
    weights = fingerprint(served)
    with served.admin() as client:
        expected = {model: text(client, model) for model in models}
        assert len(set(expected.values())) == len(models)
        active = {text(client, "a:0.5+c:1.5"), expected["base"], expected["b"]}

        def ask(number: int) -> bool:
            if number % 7 == 6:
                return text(client) in active
            model = models[number % len(models)]
            return text(client, model) == expected[model]

        def change(number: int) -> bool:
            loras = [{"name": "a", "scaling": 0.5}, {"name": "c", "scaling": 1.5}]
            at_once = {"skip_queue": number % 2 == 0}
            run_time = {"lora_name": "x", "lora_path": "d", "load_inplace": True}
            answers = [
                client.post("/v1/lora/load", json={"loras": loras, **at_once}),
                client.post("/v1/load_lora_adapter", json=run_time),
                client.post("/lora-adapters", json=[{"id": 1, "scale": 1.0}]),
                client.post("/v1/unload_lora_adapter", json={"lora_name": "x"}),
                client.delete("/v1/loras/active"),
            ]
            return all(answer.status_code == 200 for answer in answers)

        with ThreadPoolExecutor(8) as threads:
            asked = threads.map(ask, range(84))
            assert all(change(number) for number in range(6))
            assert all(asked)
        assert text(client) == expected["base"]
    assert fingerprint(served) == weights
    assert served.service.system.manager.get_stats()["leases"] == 0
    assert served.service.queue.running == served.service.queue.waiting == 0
