"""The settings of a command: its flags, else environment and files, else the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from intrinsic.errors import ConfigError, SettingsError

if TYPE_CHECKING:
    from intrinsic.config import Settings
    from intrinsic.config.sections import Project

FLAGS = {
    "model": "--model",
    "backend": "--backend",
    "adapters": "--adapters-dir",
    "registry": "--registry",
    "plugins": "--plugins",
    "routing.router": "--router",
    "routing.top_k": "--top-k",
    "routing.calibration": "--calibration",
    "routing.force_adapters": "--force",
    "bus.shadow": "--shadow",
    "generation.max_new_tokens": "--max-tokens",
    "generation.temperature": "--temperature",
    "generation.seed": "--seed",
    "server.host": "--host",
    "server.port": "--port",
    "server.auth": "--no-auth",
    "server.key_file": "--key-file",
    "server.model_name": "--model-name",
    "server.log_format": "--log-format",
    "server.grace_s": "--grace",
    "server.stats_file": "--stats-file",
}
"""What the keys that commands have options for are called there."""


def settings_of(flags: Mapping[str, object]) -> Settings:
    """Load the settings under a command's flags, by key; one that was not given is None.

    Raises `ConfigError`, or an `ExceptionGroup` with one for every fault.
    """
    from intrinsic.config import load_settings

    for key, value in flags.items():
        if isinstance(value, str) and not value.strip():
            raise ConfigError(f"{FLAGS[key]} is empty; leave it out, or name one")
    try:
        return load_settings(flags, flag_names=FLAGS)
    except SettingsError as error:
        faults = [ConfigError(sentence) for sentence in error.sentences]
    raise faults[0] if len(faults) == 1 else ExceptionGroup("settings", faults)


def project_of(registry: str | None, adapters_dir: Path | None) -> Project:
    """Where the adapters are, for commands that need nothing else."""
    return settings_of({"registry": registry, "adapters": adapters_dir}).project


def folders_of(plugins: list[Path] | None) -> tuple[Path, ...] | None:
    """What `--plugins` named, if anything."""
    return tuple(plugins) if plugins else None
