"""How much the manager may keep, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from intrinsic.errors import ConfigError

Mode = Literal["sidecar", "merged", "auto"]
"""How mixtures are served: beside the weights; in the weights, one mixture at a time; or beside
them until one mixture was asked for so long that writing it is cheaper."""


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """Limits of a manager.

    `max_loaded` adapters and `max_bytes` on the device (None: the registry's `max_loaded`, no
    limit in bytes); `max_host_bytes` in host memory (None: the backend's own limit, 0: off).
    `wait_timeout_s` bounds every wait for other requests to end. Of the adapters of one
    `exclusive` group at most one enters a mixture. `max_receipts` receipts are kept by request id.
    Of a router's runners-up, `prefetch_runners_up` are prefetched. `mode` is how mixtures are
    served, see `ModePolicy`. Raises `ConfigError`.
    """

    max_loaded: int | None = None
    max_bytes: int | None = None
    max_host_bytes: int | None = None
    wait_timeout_s: float = 60.0
    exclusive: tuple[frozenset[str], ...] = ()
    max_receipts: int = 10_000
    prefetch_runners_up: int = 2
    mode: Mode = "sidecar"

    def __post_init__(self) -> None:
        for name in ("max_loaded", "max_bytes", "max_receipts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be 1 or more")
        for name in ("max_host_bytes", "prefetch_runners_up"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} is {value}; it must be 0 (off) or more")
        if self.mode not in get_args(Mode):
            raise ConfigError(
                f"mode is {self.mode!r}; it must be one of {', '.join(get_args(Mode))}"
            )
        if not self.wait_timeout_s > 0:
            raise ConfigError(f"wait_timeout_s is {self.wait_timeout_s}; it must be above 0")
