"""The base model and the adapters that come with intrinsic."""

from __future__ import annotations

from pathlib import Path

from intrinsic.errors import ConfigError

BUNDLED_NAME = "intrinsic/base"
"""What the bundled adapters call their base model."""

_HERE = Path(__file__).parent


def base_path() -> Path:
    """Folder of the bundled base model, a small Llama with its tokenizer."""
    return _HERE / "base"


def adapters_path() -> Path:
    """Folder of the bundled adapters: inside an installed package, or beside it in a checkout.

    Raises `ConfigError` where there is neither.
    """
    for folder in (_HERE / "adapters", _HERE.parents[1] / "adapters"):
        if folder.is_dir():
            return folder
    raise ConfigError(
        "the bundled adapters are missing from this installation; reinstall intrinsic-lora"
    )
