"""A decision without generating."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.asking import refused
from tests.server.serving import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("routing")) as one:
        yield one


@pytest.fixture(scope="module")
def by_words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    flags = {"routing.router": "keyword"}
    with serving(tmp_path_factory.mktemp("words"), flags=flags) as one:
        yield one


def route(client: httpx.Client, **body: Any) -> Any:
    answer = client.post("/v1/route", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def chosen(client: httpx.Client, **body: Any) -> list[str]:
    return [one["adapter"] for one in route(client, **body)["selections"]]


def test_a_text_is_routed_and_nothing_is_loaded(served: Served) -> None:
    with served.client() as client:
        said = route(client, text="b or c", top_k=2)
    assert said["selections"] == [
        {"adapter": name, "confidence": 0.9, "weight": 1.0, "reason": ""} for name in "bc"
    ]
    assert said["none_fits"] is False
    assert said["route_ms"] >= 0
    assert served.service.system.registry.loaded_adapters == ()
    assert served.service.system.bus.statistics().published == 0


def test_none_fits_is_an_answer(served: Served) -> None:
    with served.client() as client:
        said = route(client, text="what about z")
        assert (said["selections"], said["none_fits"]) == ([], True)
        assert route(client, text="")["none_fits"] is True


def test_how_many_how_sure_and_who_not(served: Served) -> None:
    with served.client() as client:
        assert chosen(client, text="a b c") == ["a", "b"]
        assert chosen(client, text="a b c", top_k=1) == ["a"]
        assert chosen(client, text="a b c", top_k=3) == ["a", "b", "c"]
        assert chosen(client, text="a b", threshold=0.95) == []
        assert chosen(client, text="a b", threshold=0.9) == ["a", "b"]


def test_of_a_conversation_what_its_user_said_counts(served: Served) -> None:
    turns = [
        {"role": "system", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "say b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "and d"},
    ]
    with served.client() as client:
        assert sorted(chosen(client, messages=turns, top_k=4)) == ["b", "d"]


def test_candidates_are_ranked_and_explained(by_words: Served) -> None:
    with by_words.client() as client:
        said = route(client, text="the letter c please", ranked=2)
        assert said["ranking"][0]["adapter"] == "c"
        assert len(said["ranking"]) == 2
        assert said["ranking"][0]["outcome"] is None
        said = route(client, text="letter c please", explain=True, exclude=["a@1"], threshold=0.01)
        best, *others = said["ranking"]
        assert (best["adapter"], best["outcome"]) == ("c", "chosen")
        assert best["evidence"]["bm25"] > others[0]["evidence"]["bm25"]
        assert "a" not in {one["adapter"] for one in said["ranking"]}
        assert route(client, text="letter c", ranked=0)["ranking"] == []


def test_a_router_that_cannot_rank_says_so_where_an_explanation_is_asked_for(
    served: Served,
) -> None:
    with served.client() as client:
        refused(client.post("/v1/route", json={"text": "a", "explain": True}), 409, "conflict")


def test_a_router_that_fails_is_a_503_and_not_a_500(served: Served) -> None:
    with served.client() as client:
        answer = client.post("/v1/route", json={"text": "fail"})
        assert "told to" in refused(answer, 503, "server_error")


def test_the_session_is_looked_at_and_not_changed(by_words: Served) -> None:
    with by_words.client() as client:
        route(client, text="the letter c please", session="s")
    router: Any = by_words.service.system.router.router
    assert len(router.sessions) == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": "a", "messages": [{"role": "user", "content": "a"}]},
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"text": "a", "top_k": 0},
        {"text": "a", "threshold": 2},
        {"text": "a", "exclude": "a"},
        {"text": "a\0"},
        {"text": 1},
        {"text": "a", "ranked": -1},
        {"text": "a", "topk": 1},
    ],
)
def test_what_is_not_valid_is_refused(served: Served, body: dict[str, Any]) -> None:
    with served.client() as client:
        refused(client.post("/v1/route", json=body), 400, "invalid_request")
    with served.client(key=None) as nobody:
        refused(nobody.post("/v1/route", json={"text": "a"}), 401, "authentication_error")
