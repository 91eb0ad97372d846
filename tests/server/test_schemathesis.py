"""The documentation is true: whatever a client sends, every answer is one that it promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from intrinsic.config.server_options import ServerOptions
from tests.server.serving import KEYS, Served, serving

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
    ignored_auth,
)
EXAMPLES = 25
WITHOUT_END = "/v1/events"
"""Its GET is a stream for as long as the client stays; it has tests of its own."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("fuzzed")
    options = ServerOptions(port=0, grace_s=2.0, request_timeout_s=20.0, folders=(folder,))
    with serving(folder, options=options, context=64, catalog=True) as found:
        yield found


@pytest.fixture(scope="module")
def documented(served: Served) -> Any:
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("documented").exclude(path=WITHOUT_END, method="GET")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_documented(case: schemathesis.Case, served: Served) -> None:
    response = case.call(headers={"Authorization": f"Bearer {KEYS.admin_key}"}, timeout=30)
    case.validate_response(
        response, checks=CHECKS, headers={"Authorization": f"Bearer {KEYS.admin_key}"}
    )
    if response.status_code >= 400:
        body = response.json()
        assert body["status_code"] == response.status_code
        assert body["message"] == body["detail"] == body["error"]["message"]
        assert "Traceback" not in response.text
