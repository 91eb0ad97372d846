"""What a plugin must fulfil before it is registered; more, and in clearer words, than pluggy asks.

Wrappers are refused: a wrapper sees the results of all implementations at once, but here each is
awaited, timed and isolated by itself.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType

import pluggy

from intrinsic.errors import PluginLoadError

Specifications = Mapping[str, tuple[str, ...]]
"""Hooks by name, with their arguments."""


def hook_specifications(manager: pluggy.PluginManager) -> dict[str, tuple[str, ...]]:
    """Every specified hook with its arguments, sorted by name."""
    callers = vars(manager.hook)
    return {
        name: tuple(callers[name].spec.argnames)
        for name in sorted(callers)
        if not name.startswith("_") and callers[name].has_spec()
    }


def check_plugin(
    manager: pluggy.PluginManager, specifications: Specifications, plugin: object, name: str
) -> tuple[str, ...]:
    """Return the hooks that `plugin` implements. Raises `PluginLoadError` if it is not sound."""
    hooks = []
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is None:
            continue
        function = getattr(plugin, attribute)
        implementation = pluggy.HookImpl(plugin, name, function, options)
        hook = options.get("specname") or attribute
        problem = _problem(specifications, hook, implementation)
        if problem is not None:
            raise PluginLoadError(f"{_place(function, name)}: {problem}")
        hooks.append(hook)
    if not hooks:
        raise PluginLoadError(
            f"{_origin(plugin, name)} implements no hook; mark functions with "
            f"@intrinsic.hookspecs.hookimpl; hooks: {', '.join(specifications)}"
        )
    return tuple(hooks)


def _problem(
    specifications: Specifications, hook: str, implementation: pluggy.HookImpl
) -> str | None:
    if hook not in specifications:
        if implementation.optionalhook:
            return None
        near = difflib.get_close_matches(hook, specifications, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown hook {hook!r}{hint}; hooks: {', '.join(specifications)}"
    function = implementation.function
    if implementation.wrapper or implementation.hookwrapper:
        return (
            f"hook {hook!r} is implemented as a wrapper, which is not supported; "
            "write a plain implementation"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return f"hook {hook!r} is implemented as a generator; return the answer instead"
    if hook.startswith("register_") and inspect.iscoroutinefunction(function):
        return f"hook {hook!r} is called without an event loop; write it without 'async'"
    unknown = [name for name in implementation.argnames if name not in specifications[hook]]
    if unknown:
        return (
            f"hook {hook!r} has no argument {', '.join(map(repr, unknown))}; "
            f"it can take any of: {', '.join(specifications[hook]) or 'none'}"
        )
    return None


def _place(function: Callable[..., object], plugin: str) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else f"plugin {plugin!r}"


def _origin(plugin: object, name: str) -> str:
    path = getattr(plugin, "__file__", None) if isinstance(plugin, ModuleType) else None
    return f"{path}:1: this file" if path else f"plugin {name!r}"
