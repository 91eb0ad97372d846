"""Plugins: found, checked, listed, and called one by one, each isolated from the others."""

from intrinsic.plugins.manager import BUILTIN_MODULES, PluginInfo, PluginManager
from intrinsic.plugins.outcome import HookOutcome, HookResult

__all__ = ["BUILTIN_MODULES", "HookOutcome", "HookResult", "PluginInfo", "PluginManager"]
