"""What goes wrong is told in one form, in the right words, and no more of it than is meant."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from intrinsic.config.server_options import ServerOptions
from tests.server.asking import refused
from tests.server.serving import Served, serving
from tests.server.strange import SECRET, add_strange_routes


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ServerOptions(port=0, max_body_bytes=1000, request_timeout_s=0.3)
    with pytest.MonkeyPatch.context() as patch:
        add_strange_routes(patch)
        with serving(tmp_path_factory.mktemp("served"), options=options) as one:
            yield one


def get(served: Served, path: str, **options: Any) -> httpx.Response:
    with served.client() as client:
        return client.get(f"/strange/{path}", **options)


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("AdapterNotFoundError", 404, "not_found"),
        ("AdapterExistsError", 409, "conflict"),
        ("AdapterInUseError", 409, "conflict"),
        ("AdapterNotLoadedError", 409, "conflict"),
        ("IncompatibleAdapterError", 409, "conflict"),
        ("CapacityError", 429, "rate_limit_exceeded"),
        ("BusFullError", 429, "rate_limit_exceeded"),
        ("MixtureError", 400, "invalid_request"),
        ("EventError", 400, "invalid_request"),
        ("CheckpointError", 400, "invalid_request"),
        ("UnsupportedAdapterError", 400, "invalid_request"),
        ("ConfigError", 400, "invalid_request"),
        ("BackendError", 400, "invalid_request"),
        ("CapabilityError", 400, "invalid_request"),
        ("RegistryError", 503, "server_error"),
        ("EncoderError", 503, "server_error"),
    ],
)
def test_errors_of_the_package_are_told_without_the_servers_paths(
    served: Served, name: str, status: int, kind: str
) -> None:
    answer = get(served, f"error/{name}", params={"path": "/srv/of/the/team"})
    sentence = refused(answer, status, kind)
    assert sentence == "the file x.db cannot be used, see /v1/adapters"
    if status == 429:
        assert int(answer.headers["retry-after"]) >= 1


def test_what_nobody_foresaw_is_in_the_log_alone(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="intrinsic.server"):
        answer = get(served, "broken", headers={"X-Request-Id": "r-17"})
    sentence = refused(answer, 500, "server_error")
    assert "r-17" in sentence
    assert SECRET not in answer.text
    assert SECRET in caplog.text
    assert "r-17" in caplog.text
    assert answer.headers["x-request-id"] == "r-17"


def test_of_errors_in_a_group_the_one_that_is_meant_counts(served: Served) -> None:
    assert get(served, "group/ours").json()["message"] == "the first"
    assert SECRET not in get(served, "group/others").text
    assert get(served, "group/others").status_code == 500


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "the body is not valid JSON"),
        (b'{"count": NaN}', "count (body)"),
        (b"[]", "the body is not valid"),
        (b"", "the body is not valid"),
        (b'{"count": 0}', "count (body) is not valid: input should be greater than"),
        (b'{"count": 1, "name": "\\ud800"}', "lone surrogate"),
        (b'{"name": 7}', "and 1 more"),
        (b"\xff", "send JSON, in UTF-8"),
    ],
)
def test_a_body_that_is_not_valid_is_a_400_that_names_the_field(
    served: Served, content: bytes, words: str
) -> None:
    with served.client() as client:
        headers = {"Content-Type": "application/json"}
        answer = client.post("/strange/body", content=content, headers=headers)
    assert words in refused(answer, 400, "invalid_request")
    with served.client(key="no such key") as stranger:
        answer = stranger.post("/strange/body", content=content, headers=headers)
    assert "not known" in refused(answer, 401, "authentication_error")


def test_a_body_of_unknown_length_is_cut_off_where_it_is_too_large(served: Served) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    with served.client() as client:
        headers = {"Content-Type": "application/json"}
        answer = client.post("/strange/body", content=chunks(), headers=headers)
    refused(answer, 413, "invalid_request")


def test_a_plain_key_is_not_enough_for_an_admins_route(served: Served) -> None:
    refused(get(served, "admin"), 403, "permission_error")
    with served.admin() as client:
        assert client.get("/strange/admin").json() == "done"


def test_an_answer_that_takes_too_long_is_given_up_and_its_place_is_free(served: Served) -> None:
    assert "0.3 seconds" in refused(get(served, "hang"), 504, "server_error")
    assert served.service.queue.running == 0


def events(answer: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [line if line == "first" or line == "second" else json.loads(line) for line in lines]


@pytest.mark.parametrize(("name", "status"), [("hangs", 504), ("fails", 429), ("breaks", 500)])
def test_a_stream_that_cannot_go_on_ends_with_an_event_that_says_so(
    served: Served, name: str, status: int
) -> None:
    answer = get(served, f"stream/{name}")
    assert answer.status_code == 200
    first, last = events(answer)
    assert first == "first"
    assert last["status_code"] == status
    assert SECRET not in answer.text
    assert "/srv" not in answer.text
    assert served.service.queue.running == 0


def test_a_stream_without_a_limit_on_time_goes_on(served: Served) -> None:
    assert events(get(served, "stream/endless")) == ["first", "second"]


def test_what_is_no_stream_of_events_is_not_taken_for_complete(served: Served) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        get(served, "stream/plain")


def test_pairs_of_surrogates_are_characters(served: Served) -> None:
    with served.client() as client:
        headers = {"Content-Type": "application/json"}
        content = b'{"count": 1, "name": "\\ud83d\\ude00"}'
        answer = client.post("/strange/body", content=content, headers=headers)
    assert answer.json()["name"] == "\N{GRINNING FACE}"


def test_documented_refusals(served: Served, tmp_path: Path) -> None:
    with served.client(key=None) as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert paths["/strange/body"]["post"]["responses"].keys() == {
        "200", "400", "409", "413", "500", "503", "504"
    }  # fmt: skip
    assert {"401", "403"} <= paths["/strange/admin"]["get"]["responses"].keys()
