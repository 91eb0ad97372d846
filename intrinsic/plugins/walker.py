"""Call hook implementations one by one: awaited, timed and isolated, with who answered what.

pluggy's own calls cannot do this: a coroutine always "wins" a first-result call, and one
implementation that raises ends the call and leaks the coroutines already made.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping
from time import perf_counter
from typing import NamedTuple

import anyio
from anyio import CancelScope, get_cancelled_exc_class
from pluggy import HookImpl

from intrinsic.cancellation import is_scope_cancelled, is_task_cancelled
from intrinsic.errors import HookError
from intrinsic.plugins.outcome import HookResult

logger = logging.getLogger("intrinsic.plugins")

Arguments = Mapping[str, object]


class Hook(NamedTuple):
    """A hook that somebody implements, the implementations in the order of asking."""

    name: str
    arguments: frozenset[str]
    implementations: tuple[HookImpl, ...]


async def ask(
    hook: Hook,
    implementation: HookImpl,
    arguments: Arguments,
    timeout_s: float | None,
    *,
    own_task: bool = False,
) -> HookResult:
    """Ask one implementation. Only a real cancellation, and what is no `Exception`, gets out."""
    plugin = implementation.plugin_name
    started = perf_counter()
    value: object = None
    deadline = math.inf if timeout_s is None else anyio.current_time() + timeout_s
    scope = CancelScope(deadline=deadline)
    try:
        value = call(implementation, arguments)
        if inspect.isawaitable(value):
            with scope:
                value = await value
    except Exception as error:
        if scope.cancel_called:
            return _timed_out(hook, plugin, started, timeout_s, error)
        return _failed(hook, plugin, started, f"raised {type(error).__name__}: {error}", error)
    except BaseException as error:
        if not isinstance(error, get_cancelled_exc_class()):
            raise
        if is_scope_cancelled() if own_task else is_task_cancelled():
            raise
        return _failed(hook, plugin, started, "was cancelled by what it awaited", error)
    if scope.cancelled_caught:
        return _timed_out(hook, plugin, started, timeout_s, None)
    return HookResult(plugin, value, None, (perf_counter() - started) * 1e3)


def ask_sync(hook: Hook, implementation: HookImpl, arguments: Arguments) -> HookResult:
    """Ask one implementation that must not be async."""
    plugin = implementation.plugin_name
    started = perf_counter()
    try:
        value = call(implementation, arguments)
    except Exception as error:
        return _failed(hook, plugin, started, f"raised {type(error).__name__}: {error}", error)
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        problem = "returned an awaitable where nothing can be awaited; write it without 'async'"
        return _failed(hook, plugin, started, problem, None)
    return HookResult(plugin, value, None, (perf_counter() - started) * 1e3)


async def ask_all(
    hook: Hook, arguments: Arguments, timeout_s: float | None
) -> tuple[HookResult, ...]:
    """Ask every implementation; the async ones side by side, after the plain ones."""
    first, *more = hook.implementations
    if not more:
        return (await ask(hook, first, arguments, timeout_s),)
    results: dict[HookImpl, HookResult] = {}

    async def ask_into(implementation: HookImpl, own_task: bool) -> None:
        results[implementation] = await ask(
            hook, implementation, arguments, timeout_s, own_task=own_task
        )

    waiting = []
    for implementation in hook.implementations:
        if inspect.iscoroutinefunction(implementation.function):
            waiting.append(implementation)
        else:
            await ask_into(implementation, False)
    if waiting:
        try:
            async with anyio.create_task_group() as tasks:
                for implementation in waiting:
                    tasks.start_soon(ask_into, implementation, True)
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
    return tuple(results[implementation] for implementation in hook.implementations)


def call(implementation: HookImpl, arguments: Arguments) -> object:
    """Call an implementation with those of the arguments that it takes."""
    return implementation.function(*[arguments[name] for name in implementation.argnames])


def _timed_out(
    hook: Hook,
    plugin: str,
    started: float,
    timeout_s: float | None,
    cause: BaseException | None,
) -> HookResult:
    return _failed(hook, plugin, started, f"did not answer within {timeout_s} s", cause)


def _failed(
    hook: Hook, plugin: str, started: float, problem: str, cause: BaseException | None
) -> HookResult:
    error = HookError(f"plugin {plugin!r}, hook {hook.name}: {problem}")
    error.__cause__ = cause
    logger.warning("%s", error, exc_info=cause)
    return HookResult(plugin, None, error, (perf_counter() - started) * 1e3)
