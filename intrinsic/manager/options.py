"""How much the manager may keep, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass

from intrinsic.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """Limits of a manager.

    `max_loaded` adapters and `max_bytes` on the device (None: the registry's `max_loaded`, no
    limit in bytes). `wait_timeout_s` bounds every wait for other requests to end. Of the adapters
    of one `exclusive` group at most one enters a mixture. `max_receipts` receipts are kept by
    request id. Raises `ConfigError`.
    """

    max_loaded: int | None = None
    max_bytes: int | None = None
    wait_timeout_s: float = 60.0
    exclusive: tuple[frozenset[str], ...] = ()
    max_receipts: int = 10_000

    def __post_init__(self) -> None:
        for name in ("max_loaded", "max_bytes", "max_receipts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be 1 or more")
        if not self.wait_timeout_s > 0:
            raise ConfigError(f"wait_timeout_s is {self.wait_timeout_s}; it must be above 0")
