"""Spans of a request: within each other, with its id and what was applied."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from intrinsic.errors import ConfigError
from intrinsic.server.tracer import make_tracing
from intrinsic.server.tracing import Tracing
from tests.server.serving import Served, serving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider.get_tracer("tests"), close=provider.shutdown)


@pytest.fixture
def served(tmp_path: Path, tracing: Tracing) -> Iterator[Served]:
    with serving(tmp_path, tracing=tracing) as one:
        yield one


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """The spans of a request; there is one of each name."""
    finished = exporter.get_finished_spans()
    found = {span.name: span for span in finished}
    assert len(found) == len(finished), [span.name for span in finished]
    return found


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("intrinsic."): v for name, v in (span.attributes or {}).items()}


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_traced_from_the_event_to_the_last_token(
    served: Served, exporter: InMemorySpanExporter, stream: bool
) -> None:
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": "b please"}],
        "max_tokens": 2,
        "stream": stream,
    }
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "r-1"}
    with served.client() as client:
        assert client.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    served.call(served.service.running.wait_until_idle)
    spans = by_name(exporter)
    whole = "POST /v1/chat/completions"
    wanted = [whole, "event", "route", "load", "generate", *(["stream"] if stream else [])]
    assert set(wanted) <= spans.keys()
    request = spans[whole]
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT
    own = {span.context.span_id for span in spans.values() if span.context}
    for name in wanted[1:]:
        span = spans[name]
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.parent is not None
        assert span.parent.span_id in own
        assert span.end_time is not None
        assert span.start_time is not None
        assert span.start_time <= span.end_time
    said = attributes(request)
    assert said["request_id"] == "r-1"
    assert said["status"] == 200
    assert said["model"] == "tiny-llama"
    assert said["mixture"] == "b@1:1"
    assert "please" not in str(said)
    assert attributes(spans["load"])["mixture"] == "b@1:1"


def test_an_event_of_memories_is_traced_like_that_of_a_conversation(
    served: Served, exporter: InMemorySpanExporter
) -> None:
    with served.client() as client:
        answer = client.post("/v1/events", json={"vectors": [{"text": "b please"}]})
    served.call(served.service.running.wait_until_idle)
    spans = by_name(exporter)
    event, request = spans["event"], spans["POST /v1/events"]
    assert attributes(event)["event_id"] == answer.json()["event_id"]
    assert event.parent == request.context
    assert spans["route"].parent == spans["load"].parent == event.context


def test_spans_lie_within_each_other_and_tell_of_errors(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    nothing: dict[str, str] = {}
    with pytest.raises(KeyError), tracing.span("outer"), tracing.span("inner", count=2) as span:
        span.note(more=nothing["why"])
    inner, outer = exporter.get_finished_spans()
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert attributes(inner) == {"count": 2}
    assert not inner.status.is_ok
    assert "why" not in str(inner.status.description)


async def test_a_generator_that_is_closed_elsewhere_ends_its_span(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    async def pieces() -> AsyncIterator[int]:
        with tracing.span("stream"):
            yield 1
            yield 2

    stream: Any = pieces()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.__anext__)
    await stream.aclose()
    (span,) = exporter.get_finished_spans()
    assert span.status.is_unset


def test_without_a_tracer_there_are_no_spans() -> None:
    with Tracing().span("nothing", count=1) as span:
        span.note(more=2)


def test_traces_go_where_settings_or_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_tracing(None, {})._tracer is None
    variable = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    for made in (make_tracing("http://127.0.0.1:9", {}), make_tracing(None, variable)):
        assert made._tracer is not None
        made.close()
    assert make_tracing(None, {**variable, "OTEL_TRACES_EXPORTER": "none"})._tracer is None
    assert make_tracing(None, {**variable, "OTEL_SDK_DISABLED": "true"})._tracer is None


def test_without_the_extra_only_what_was_asked_for_here_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert make_tracing(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})._tracer is None
    with pytest.raises(ConfigError, match=r"intrinsic-lora\[otel\]"):
        make_tracing("http://x", {})
