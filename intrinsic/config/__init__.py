"""Settings of flags, environment and files, checked before anything runs."""

from intrinsic.config.loading import load_settings
from intrinsic.config.settings import Settings

__all__ = ["Settings", "load_settings"]
