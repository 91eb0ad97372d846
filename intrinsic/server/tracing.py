"""Spans of OpenTelemetry, where its extra is installed and traces are sent somewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from intrinsic.receipt import Receipt
from intrinsic.server.mixture_text import shown

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

Attribute = str | bool | int | float

_current: ContextVar[OtelSpan | None] = ContextVar("intrinsic_span", default=None)


class Span:
    """A stretch of a request; without tracing it is none, and costs nothing."""

    def __init__(self, span: OtelSpan | None = None) -> None:
        self._span = span

    def note(self, **attributes: Attribute) -> None:
        """Say more about it."""
        if self._span is not None:
            self._span.set_attributes({f"intrinsic.{k}": v for k, v in attributes.items()})

    def rename(self, name: str) -> None:
        """Call it by what is known only now."""
        if self._span is not None:
            self._span.update_name(name)


_NONE = Span()


class Tracing:
    """Makes spans with a tracer of OpenTelemetry, and none without one.

    `close` sends what was not sent yet; it is called in a thread.
    """

    def __init__(
        self, tracer: Tracer | None = None, *, close: Callable[[], object] = lambda: None
    ) -> None:
        self._tracer = tracer
        self.close = close

    @contextmanager
    def span(
        self, name: str, *, headers: Mapping[str, str] | None = None, **attributes: Attribute
    ) -> Iterator[Span]:
        """Trace the block, within the span around it; an error in it is noted and goes on.

        With `headers` a `traceparent` of the client's is what it is within. Attributes get the
        prefix `intrinsic.`.
        """
        if self._tracer is None:
            yield _NONE
            return
        span = self._start(name, headers)
        token = _current.set(span)
        made = Span(span)
        made.note(**attributes)
        try:
            yield made
        except BaseException as error:
            _mark(span, error)
            raise
        finally:
            span.end()
            with suppress(ValueError):  # of a generator that was closed from another task
                _current.reset(token)

    def routed(self, receipt: Receipt) -> None:
        """Trace the routing and the loading that just ended, with the times of their receipt."""
        if self._tracer is None:
            return
        end = time.time_ns()
        loading = end - int((receipt.load_ms + receipt.switch_ms) * 1e6)
        start = loading - int(receipt.route_ms * 1e6)
        route = self._start("route", start=start)
        chosen = ", ".join(s.adapter for s in receipt.selections)
        Span(route).note(selections=chosen or "none", skipped=len(receipt.skipped))
        route.end(loading)
        load = self._start("load", start=loading)
        Span(load).note(mixture=shown(receipt.mixture))
        load.end(end)

    def _start(
        self, name: str, headers: Mapping[str, str] | None = None, *, start: int | None = None
    ) -> OtelSpan:
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, set_span_in_context

        assert self._tracer is not None
        parent = _current.get()
        context, kind = None, SpanKind.INTERNAL
        if parent is not None:
            context = set_span_in_context(parent)
        elif headers is not None:
            context, kind = extract(headers), SpanKind.SERVER
        return self._tracer.start_span(name, context, kind, start_time=start)


def _mark(span: OtelSpan, error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    if isinstance(error, GeneratorExit):
        return
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
