"""`intrinsic serve` as its users start and stop it."""

from __future__ import annotations

import json
import shutil
import signal
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.registering import Newcomer
from tests.server.processes import Process, model_and_adapters, served


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_and_adapters(tmp_path_factory.mktemp("written"))


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "here"))


def keys_of(folder: Path) -> dict[str, str]:
    keys: dict[str, str] = json.loads((folder / "own" / "keys.json").read_text())
    return keys


def ask(client: Any, count: int, **more: object) -> Any:
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": "base", "messages": messages, "max_tokens": count, **more}
    return client.build_request("POST", "/v1/chat/completions", json=body)


def test_from_the_first_start_to_the_exit(folder: Path) -> None:
    options = ("--adapters-dir", "adapters", "--log-format", "json", "--stats-file", "stats.json")
    with served(folder, *options, "--grace", 60) as one:
        keys = keys_of(folder)
        assert stat.S_IMODE((folder / "own" / "keys.json").stat().st_mode) == 0o600
        shown = "\n".join(one.told)
        assert keys["admin_key"] in shown
        assert keys["api_key"] in shown
        assert "model with 2 adapters at http://127.0.0.1:" in shown
        assert one.read_line().startswith("curl http://127.0.0.1:")
        assert "$API_KEY" in one.read_line()
        with one.client(keys["api_key"]) as client:
            whole = client.send(ask(client, 400)).json()["choices"][0]
            request = ask(client, 400, stream=True)
            answer = client.send(request, stream=True)
            lines = answer.iter_lines()
            first = next(lines)
            one.process.send_signal(signal.SIGTERM)  # in the middle of an answer
            rest = [line for line in (first, *lines) if line]
        assert one.wait() == 0
    pieces = [json.loads(line.removeprefix("data: ")) for line in rest[:-1]]
    text = "".join(p["choices"][0]["delta"].get("content", "") for p in pieces if p["choices"])
    assert rest[-1] == "data: [DONE]"
    assert text == whole["message"]["content"]
    counted = json.loads((folder / "stats.json").read_text())
    assert counted["requests_by_status"] == {"2xx": 2, "3xx": 0, "4xx": 0, "5xx": 0}
    assert counted["tokens"]["completion"] == 2 * len(text)
    assert counted["ended_early"] == {}
    assert one.told[-1] == "intrinsic: stopped"
    logged = [json.loads(line) for line in one.told if line.startswith("{")]
    assert [said["path"] for said in logged if said["message"] == "request"] == [
        "/v1/chat/completions"
    ] * 2
    assert logged[-1]["message"] == "served"
    assert keys["api_key"] not in "\n".join(one.told).replace(shown, "")


def test_what_takes_longer_than_the_grace_is_cut_off_and_the_exit_is_clean(folder: Path) -> None:
    with served(folder, "--adapters-dir", "adapters", "--grace", 0) as one:
        keys = keys_of(folder)
        with one.client(keys["api_key"]) as client, ThreadPoolExecutor() as threads:
            request = ask(client, 400, stream=True)
            answer = client.send(request, stream=True)
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            ended = threads.submit(one.stop)
            rest = [line for line in lines if line]
            assert ended.result() == 0
    last = json.loads(rest[-1].removeprefix("data: "))
    assert last["error"]["type"] == "server_error"
    assert any("were cut off" in line for line in one.told)
    with served(folder, "--adapters-dir", "adapters") as again:
        assert not any(keys["admin_key"] in line for line in again.told)
        assert keys_of(folder) == keys
        again.process.send_signal(signal.SIGINT)
        assert again.wait() == 0


def models_of(one: Process, key: str) -> set[str]:
    with one.client(key) as client:
        return {card["id"] for card in client.get("/v1/models").json()["data"]}


def test_two_servers_share_a_registry_and_the_second_says_so(folder: Path) -> None:
    async def register(*names: str) -> None:
        async with AdapterCatalog(folder / "r.db") as catalog:
            for name in names:
                path = folder / "adapters" / name
                await catalog.register(Newcomer(path, base_model="model"))

    anyio.run(register, "a")
    with served(folder, "--registry", "r.db") as first, served(folder, "--registry", "r.db") as two:
        assert not any("they share it" in line for line in first.told)
        (said,) = [line for line in two.told if "they share it" in line]
        assert f"process {first.process.pid} at {first.url}" in said
        key = keys_of(folder)["api_key"]
        assert all("a" in models_of(one, key) for one in (first, two))
        anyio.run(register, "b")
        for one in (first, two):
            while "b" not in models_of(one, key):
                pass
        assert two.stop() == 0
