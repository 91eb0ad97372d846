"""How the service listens, whom it lets in, and how much it takes on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from intrinsic.errors import ConfigError

LogFormat = Literal["text", "json"]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Those of `intrinsic serve`. Raises `ConfigError`.

    `key_file` has the keys and is made where it is not there; None is the one in the user's
    configuration folder. `admin_key` and `api_key`, both or none, are used in its place. `auth`
    false lets everybody on this machine in, so `host` must be a loopback address then. `folders`
    are where adapters may lie that clients name by path, besides the folder of adapters.
    `model_name` is what clients call the model; its own name where None. Web pages of
    `cors_origins` may ask. At most `max_running` generations run and `max_queued` wait. Sizes are
    in bytes, times in seconds; 0 is no limit for `max_prompt_tokens`. When it ends, the service
    writes its statistics to `stats_file`. Traces go to `trace_endpoint` (OTLP over HTTP), else
    where OpenTelemetry's own variables say, if they do.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    auth: bool = True
    key_file: Path | None = None
    admin_key: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    folders: tuple[Path, ...] = ()
    model_name: str | None = None
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 4 * 1024 * 1024
    max_prompt_tokens: int = 0
    max_running: int = 64
    max_queued: int = 256
    request_timeout_s: float = 600.0
    grace_s: float = 20.0
    log_format: LogFormat = "text"
    stats_file: Path | None = None
    trace_endpoint: str | None = None

    def __post_init__(self) -> None:
        limits = {
            "port": (0 <= self.port <= 65535, "a number from 0 (any free one) to 65535"),
            "max_body_bytes": (self.max_body_bytes >= 1, "1 or more"),
            "max_prompt_tokens": (self.max_prompt_tokens >= 0, "0 (the model's own) or more"),
            "max_running": (self.max_running >= 1, "1 or more"),
            "max_queued": (self.max_queued >= 0, "0 or more"),
            "request_timeout_s": (
                math.isfinite(self.request_timeout_s) and self.request_timeout_s > 0.0,
                "a number above 0, in seconds",
            ),
            "grace_s": (
                math.isfinite(self.grace_s) and self.grace_s >= 0.0,
                "0 or more, in seconds",
            ),
            "log_format": (
                self.log_format in get_args(LogFormat),
                f"one of {', '.join(get_args(LogFormat))}",
            ),
        }
        for name, (valid, words) in limits.items():
            if not valid:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {words}")
