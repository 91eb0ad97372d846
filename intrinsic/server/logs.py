"""What the service writes to its log: a line of text, or of JSON, for each thing that happens."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from intrinsic.config.server_options import LogFormat

_LOGGERS = ("intrinsic", "uvicorn")


def log_to_standard_error(form: LogFormat) -> None:
    """From now on what this package and its web server log goes to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "intrinsic" else logging.WARNING)


class TextLines(logging.Formatter):
    """`time LEVEL logger: message name=value ...`; a text with spaces or signs in it is quoted.

    What a client sent can begin neither a new line nor another field.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        said = [f"{name}={_value(value)}" for name, value in _fields(record).items()]
        head = f"{_time(record)} {record.levelname} {record.name}: {_shown(record.getMessage())}"
        line = " ".join([head, *said])
        return f"{line}\n{trace}" if (trace := _trace(self, record)) else line


class JsonLines(logging.Formatter):
    """One object for each record: `time`, `level`, `logger`, `message`, and its own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        said: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if trace := _trace(self, record):
            said["traceback"] = trace
        return json.dumps(said, default=str)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return fields


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


def _value(value: object) -> str:
    shown = _shown(value)
    if isinstance(value, str) and any(mark in shown for mark in ' ="'):
        return '"' + shown.replace('"', '\\"') + '"'
    return shown
