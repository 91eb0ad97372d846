"""A line for every request: what happened, and nothing that was said."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from intrinsic.server.logs import JsonLines, TextLines
from tests.server.serving import Served, serving

PROMPT = "b wie geheim"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as one:
        yield one


def fields_of(caplog: pytest.LogCaptureFixture, path: str) -> dict[str, Any]:
    found = [r for r in caplog.records if getattr(r, "fields", {}).get("path") == path]
    assert len(found) == 1
    fields: dict[str, Any] = vars(found[0])["fields"]
    return fields


def test_a_generation_says_what_was_applied_and_how_long_it_took(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 3}
    with caplog.at_level(logging.INFO), served.client() as client:
        answer = client.post("/v1/chat/completions", json=body).json()
        served.call(served.service.running.wait_until_idle)
    fields = fields_of(caplog, "/v1/chat/completions")
    assert fields["status"] == 200
    assert fields["routed"] == "fitted"
    assert fields["mixture"] == "b@1:1"
    assert fields["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert 0 <= fields["route_ms"] <= fields["first_token_ms"] <= fields["ms"]
    text = "\n".join(TextLines().format(one) + JsonLines().format(one) for one in caplog.records)
    said = answer["choices"][0]["message"]["content"]
    assert PROMPT not in text
    assert served.api_key not in text
    assert len(said) < 3 or said not in text


def test_neither_queries_nor_keys_are_logged(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), served.client() as client:
        client.get("/nothing", params={"api_key": served.api_key})
        client.get("/v1/auth/permission", headers={"X-API-Key": "an unknown key"})
    fields_of(caplog, "/nothing")
    ours = [one for one in caplog.records if one.name.startswith("intrinsic")]
    assert not logging.getLogger("uvicorn.access").propagate
    text = "\n".join(TextLines().format(one) for one in ours)
    assert "path=/nothing" in text
    assert served.api_key not in text
    assert "an unknown key" not in text


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("intrinsic.x", logging.INFO, "", 0, message, (), None)
    made.created = 1_700_000_000.25
    vars(made)["fields"] = fields
    return made


def test_a_line_of_text_is_one_line() -> None:
    line = TextLines().format(record("a\nb", path="/x\nINFO", ms=1.5, counts={"a": 1}))
    assert line == (
        "2023-11-14T22:13:20.250Z INFO intrinsic.x: a\\nb path=/x\\nINFO ms=1.5 counts={'a': 1}"
    )


def test_a_path_cannot_pass_for_other_fields() -> None:
    line = TextLines().format(record("request", path='/x status=200 "y', status=404))
    assert line.endswith(r"""path="/x status=200 \"y" status=404""")


def test_a_line_of_json_is_an_object() -> None:
    line = JsonLines().format(record("a\nb", ms=1.5, file=Path("/x")))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "intrinsic.x",
        "message": "a\nb",
        "ms": 1.5,
        "file": "/x",
    }


def test_a_traceback_is_in_both_forms() -> None:
    made = record("failed")
    try:
        raise KeyError("why")
    except KeyError:
        made.exc_info = sys.exc_info()
    assert "KeyError: 'why'" in TextLines().format(made)
    assert "KeyError: 'why'" in json.loads(JsonLines().format(made))["traceback"]
