"""The documentation is true: whatever a client sends, every answer is one that it promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
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
from intrinsic.server.app import ROUTERS
from tests.server.serving import KEYS, Served, serving

# It loads the rest when it is first used. While a server's threads run that can fail: pytest
# rewrites its modules, and Python 3.11 may not parse in two threads at once (its issue 106905).
schemathesis.openapi.from_dict({"openapi": "3.1.0", "info": {}, "paths": {}})

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
    ignored_auth,
]
HEADERS = {"Authorization": f"Bearer {KEYS.admin_key}"}
FUZZING = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
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


def operations() -> list[tuple[str, str]]:
    """Method and path of everything that is documented, but for the stream without an end."""
    found = {
        (method, route.path_format)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods or ()
    }
    return sorted(found - {("GET", WITHOUT_END)}, key=lambda operation: operation[::-1])


@pytest.mark.parametrize(("method", "path"), operations())
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_documented(
    mode: GenerationMode, method: str, path: str, documented: Any
) -> None:
    cases = documented[path][method].as_strategy(generation_mode=mode)

    @given(case=cases)
    @FUZZING
    def ask(case: schemathesis.Case[Any]) -> None:
        response = case.call(headers=HEADERS, timeout=60)
        case.validate_response(response, checks=CHECKS, headers=HEADERS)
        if response.status_code >= 400:
            body = response.json()
            assert body["status_code"] == response.status_code
            assert body["message"] == body["detail"] == body["error"]["message"]
            assert "Traceback" not in response.text

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # what takes nothing cannot be asked wrongly
