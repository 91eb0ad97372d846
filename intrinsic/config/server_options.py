"""How the service listens, whom it lets in, and how much it takes on."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, get_args

from intrinsic.errors import ConfigError

LogFormat = Literal["text", "json"]
_URL = re.compile(r"https?://[^/\s]")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?")


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
            "trace_endpoint": (
                self.trace_endpoint is None or _URL.match(self.trace_endpoint) is not None,
                "a URL as http://127.0.0.1:4318",
            ),
        }
        for name, (valid, words) in limits.items():
            if not valid:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {words}")
        self._check_who_is_let_in()

    def _check_who_is_let_in(self) -> None:
        if not self.host.strip():
            raise ConfigError("host is empty; name an address, or leave it out")
        if not self.auth and not is_loopback(self.host):
            raise ConfigError(
                f"auth is false, and {self.host!r} can be reached from other machines; ask for "
                "keys, or listen at 127.0.0.1"
            )
        if (self.admin_key is None) != (self.api_key is None):
            given, other = ("api_key", "admin_key")
            if self.api_key is None:
                given, other = other, given
            raise ConfigError(f"{given} is given without {other}; give both, or neither")
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"cors_origins has {origin!r}; an origin is as https://example.org or "
                    "http://localhost:3000, without a path"
                )
        if "*" in self.cors_origins and not self.auth:
            raise ConfigError(
                "cors_origins has '*', and no key is asked for: then every web page could ask; "
                "name the origins, or ask for keys"
            )


def is_loopback(host: str) -> bool:
    """Whether an address or a name is one of this machine's own that no other can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
