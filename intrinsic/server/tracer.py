"""Where traces go: over OTLP to what is configured."""

from __future__ import annotations

import os
from collections.abc import Mapping

from intrinsic.errors import ConfigError
from intrinsic.extras import how_to_install
from intrinsic.server.tracing import Tracing

_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PATH = "/v1/traces"


def make_tracing(endpoint: str | None, environ: Mapping[str, str] = os.environ) -> Tracing:
    """Trace to `endpoint`, else as OpenTelemetry's own variables say, else not at all.

    Raises `ConfigError` where that is asked for in the settings and the extra is not installed;
    of variables alone, which may be meant for other programs, it is then not spoken.
    """
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if off or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return Tracing()
    if endpoint is None and not any(environ.get(name) for name in _VARIABLES):
        return Tracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        if endpoint is None:
            return Tracing()
        raise ConfigError(
            f"server.trace_endpoint needs OpenTelemetry, which cannot be imported ({error}); "
            + how_to_install("otel")
        ) from None
    named = {} if environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "intrinsic"}
    provider = TracerProvider(resource=Resource.create(named))
    exporter = OTLPSpanExporter(endpoint=endpoint and endpoint.rstrip("/") + _PATH)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider.get_tracer("intrinsic"), close=provider.shutdown)
