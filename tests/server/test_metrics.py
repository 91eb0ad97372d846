"""What is counted is what happened, under names that a client cannot add to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.serving import Served, serving

PAGE = Path(__file__).parents[2] / "docs" / "server.md"


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as one:
        yield one


def samples(served: Served) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = served.call(served.service.metrics.text).decode()
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def value(served: Served, name: str, **labels: str) -> float:
    return samples(served)[f"intrinsic_{name}", frozenset(labels.items())]


def ask(served: Served, text: str, **more: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    body = {"model": "auto", "messages": messages, "max_tokens": 5, **more}
    with served.client() as client:
        answer: dict[str, Any] = client.post("/v1/chat/completions", json=body).json()
    served.call(served.service.running.wait_until_idle)
    return answer


def test_generations_are_counted_by_what_came_of_their_routing(served: Served) -> None:
    used = [ask(served, text)["usage"] for text in ("b please", "a b please", "nothing")]
    used.append(ask(served, "b", model="base")["usage"])
    assert value(served, "routed_total", outcome="fitted") == 2
    assert value(served, "routed_total", outcome="none") == 1
    assert value(served, "routing_seconds_count") == 3
    assert value(served, "time_to_first_token_seconds_count") == 4
    for kind in ("prompt", "completion"):
        counted = sum(one[f"{kind}_tokens"] for one in used)
        assert value(served, "tokens_total", kind=kind) == counted
    chat = {"method": "POST", "route": "/v1/chat/completions"}
    assert value(served, "requests_total", status="200", **chat) == 4
    assert value(served, "request_seconds_count", route=chat["route"]) == 4
    assert value(served, "tier_misses_total", tier="device") == 2
    assert value(served, "tier_adapters", tier="device") == 2
    assert value(served, "tier_adapters", tier="disk") == 4
    assert value(served, "tier_bytes", tier="device") > 0
    assert value(served, "batch_rows_total") >= value(served, "batch_steps_total") > 0
    assert value(served, "bus_published_total") == 3
    assert value(served, "queue_running") == 0


def test_refusals_and_failures_are_counted(served: Served) -> None:
    ask(served, "x", model="no such adapter")
    with served.client(key=None) as client:
        client.get("/metrics")
    assert value(served, "refused_total", status="404") == 1
    assert value(served, "refused_total", status="401") == 1
    statistics = served.service.metrics.statistics()
    assert statistics["requests"] == 2
    assert statistics["requests_by_status"] == {"2xx": 0, "3xx": 0, "4xx": 2, "5xx": 0}


def test_the_kill_switch_and_dead_letters_are_seen(served: Served) -> None:
    assert value(served, "bus_kill_switch") == 0
    assert value(served, "bus_dead_letters") == 0
    served.call(served.service.system.bus.suspend, "for a test")
    assert value(served, "bus_kill_switch") == 1
    with served.client(key=None) as client:
        (issue,) = client.get("/health").json()["issues"]
    assert "for a test" in issue["description"]
    assert set(issue) == {"time", "description"}  # as TabbyAPI has it


def test_no_client_can_add_series(served: Served) -> None:
    def series() -> set[Any]:
        return {key for key in samples(served) if "_created" not in key[0]}

    with served.client() as client:
        client.get("/nothing")
        client.request("BREW", "/nothing")
        before = series()
        for number in range(30):
            client.get(f"/nothing/{number}", headers={"X-Request-Id": str(number)})
            client.request(f"BREW{number}", "/nothing")
    assert series() == before


def test_what_the_page_names_is_there(served: Served) -> None:
    ask(served, "b please")
    text = served.call(served.service.metrics.text).decode()
    given = set(re.findall(r"# TYPE (\w+) \w+", text))
    for line in re.findall(r"^\| `intrinsic_.*$", PAGE.read_text(), re.MULTILINE):
        names = re.findall(r"`(\w+?)(\*?)`", line.split("|")[1])
        prefix = re.sub(r"[a-z]+$", "", names[0][0])
        for name, wild in names:
            whole = name if name.startswith("intrinsic") else prefix + name.removeprefix("_")
            found = [one for one in given if one == whole or (wild and one.startswith(whole))]
            assert found, whole
