"""Hooks are called one by one: awaited, timed, isolated, with who answered what."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable
from typing import Any

import anyio
import pytest
from anyio import CancelScope, get_cancelled_exc_class

from intrinsic.bus import MemoryBus
from intrinsic.errors import HookError, PluginError
from intrinsic.events import InjectionChannel, MemoryEvent
from intrinsic.hookspecs import hookimpl
from intrinsic.plugins import PluginManager
from tests.bus.backends import both_backends

SHORT_S = 0.1
EVENT = MemoryEvent(InjectionChannel.DYNAMIC_LORA)


def select(answer: object = None, **options: Any) -> object:
    """A plugin that answers `select_adapters`."""

    class Plugin:
        def select_adapters(self) -> object:
            if isinstance(answer, BaseException):
                raise answer
            return answer

    hookimpl(**options)(Plugin.select_adapters)
    return Plugin()


def select_async(answer: object = None) -> object:
    """The same with a coroutine; "hang" hangs."""

    class Plugin:
        @hookimpl
        async def select_adapters(self, query: str) -> object:
            await anyio.lowlevel.checkpoint()
            if answer == "hang":
                await anyio.sleep_forever()
            if isinstance(answer, BaseException):
                raise answer
            return answer

    return Plugin()


def manager(*plugins: object, hook_timeout_s: float | None = 10.0) -> PluginManager:
    """Plugins p0, p1, ...; the first one is asked first."""
    built = PluginManager(hook_timeout_s=hook_timeout_s)
    for index in reversed(range(len(plugins))):
        built.register(plugins[index], f"p{index}")
    return built


ARGUMENTS: dict[str, Any] = {"query": "q", "candidates": [], "top_k": 1, "context": None}


@both_backends
async def test_the_first_answer_wins_and_the_rest_is_not_asked() -> None:
    later = select(RuntimeError())
    plugins = manager(select(), select_async(), select_async(["a"]), select(["b"]), later)
    outcome = await plugins.call_first("select_adapters", **ARGUMENTS)
    assert outcome.value == ["a"]
    assert outcome.answered_by == "p2"
    assert [(result.plugin, result.value) for result in outcome.results] == [
        ("p0", None),
        ("p1", None),
        ("p2", ["a"]),
    ]
    assert outcome.ok
    assert all(result.duration_ms >= 0 for result in outcome.results)


@both_backends
async def test_an_empty_answer_is_an_answer() -> None:
    outcome = await manager(select([]), select(["b"])).call_first("select_adapters", **ARGUMENTS)
    assert outcome.value == []
    assert outcome.answered_by == "p0"


@both_backends
async def test_nobody_answers() -> None:
    outcome = await manager(select(), select_async()).call_first("select_adapters", **ARGUMENTS)
    assert outcome.value is None
    assert outcome.answered_by is None
    assert outcome.values == ()


@both_backends
async def test_one_that_raises_or_hangs_is_recorded_and_the_next_is_asked() -> None:
    plugins = manager(
        select(ValueError("plain")),
        select_async(KeyError("async")),
        select_async("hang"),
        select(1),
        hook_timeout_s=SHORT_S,
    )
    outcome = await plugins.call_first("select_adapters", **ARGUMENTS)
    assert outcome.value == 1
    assert not outcome.ok
    assert [str(error) for error in outcome.errors] == [
        "plugin 'p0', hook select_adapters: raised ValueError: plain",
        "plugin 'p1', hook select_adapters: raised KeyError: 'async'",
        f"plugin 'p2', hook select_adapters: did not answer within {SHORT_S} s",
    ]
    assert all(type(error) is HookError for error in outcome.errors)
    assert isinstance(outcome.errors[0].__cause__, ValueError)


@both_backends
async def test_implementations_are_asked_in_pluggys_order() -> None:
    plugins = PluginManager()
    for name, options in (
        ("last", {"trylast": True}),
        ("first", {"tryfirst": True}),
        ("older", {}),
        ("newer", {}),
    ):
        plugins.register(select(None, **options), name)
    outcome = await plugins.call_first("select_adapters", **ARGUMENTS)
    asked = [result.plugin for result in outcome.results]
    assert asked == ["first", "newer", "older", "last"]


@both_backends
async def test_a_chain_passes_each_ones_answer_to_the_next() -> None:
    def adjust(extra: str | None, error: Exception | None = None) -> object:
        class Plugin:
            @hookimpl
            async def adjust_selections(self, selections: list[str]) -> list[str] | None:
                if error is not None:
                    raise error
                return None if extra is None else [*selections, extra]

        return Plugin()

    plugins = manager(adjust("a"), adjust(None), adjust("x", ValueError("no")), adjust("b"))
    outcome = await plugins.call_chain(
        "adjust_selections", "selections", ["0"], query="q", context=None
    )
    assert outcome.value == ["0", "a", "b"]
    assert outcome.answered_by == "p3"
    assert [result.value for result in outcome.results] == [["0", "a"], None, None, ["0", "a", "b"]]
    assert len(outcome.errors) == 1
    nobody = await manager().call_chain(
        "adjust_selections", "selections", ["0"], query="q", context=None
    )
    assert nobody.value == ["0"]
    assert nobody.results == ()


@both_backends
async def test_a_notification_reaches_all_and_a_slow_one_delays_nobody() -> None:
    heard: list[str] = []
    all_heard = anyio.Event()

    def note(name: str) -> None:
        heard.append(name)
        if len(heard) == 3:
            all_heard.set()

    class Slow:
        @hookimpl
        async def on_event(self) -> None:
            await anyio.sleep_forever()

    class Quick:
        @hookimpl
        async def on_event(self, event: MemoryEvent) -> None:
            assert event is EVENT
            note("quick")

    class Plain:
        @hookimpl
        def on_event(self, event: MemoryEvent) -> None:
            note("plain")

    class PlainAwaitable:
        @hookimpl
        def on_event(self, event: MemoryEvent) -> Awaitable[None]:
            return later()

    async def later() -> None:
        note("awaitable")

    class Raises:
        @hookimpl
        async def on_event(self) -> None:
            raise ValueError

    plugins = manager(Slow(), Quick(), Raises(), Plain(), PlainAwaitable(), hook_timeout_s=None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: plugins.notify("on_event", event=EVENT))
        await all_heard.wait()
        tasks.cancel_scope.cancel()
    plugins.hook_timeout_s = SHORT_S
    heard.clear()
    outcome = await plugins.notify("on_event", event=EVENT)
    assert [result.plugin for result in outcome.results] == ["p0", "p1", "p2", "p3", "p4"]
    assert [result.error is None for result in outcome.results] == [False, True, False, True, True]
    assert sorted(heard) == ["awaitable", "plain", "quick"]


@both_backends
async def test_a_hook_that_nobody_implements_costs_a_lookup() -> None:
    plugins = manager()
    assert not plugins.has("on_event")
    assert (await plugins.notify("on_event", event=EVENT)).results == ()
    assert (await plugins.call_first("select_adapters", **ARGUMENTS)).results == ()
    plugins.register(select(), "a")
    assert plugins.has("select_adapters")
    assert not plugins.has("on_event")


def test_registrations_are_collected_without_an_event_loop() -> None:
    class Sound:
        @hookimpl
        def register_routers(self) -> dict[str, Any]:
            return {"mine": dict}

    class Broken:
        @hookimpl
        def register_routers(self) -> dict[str, Any]:
            raise ValueError("no")

    class Passes:
        @hookimpl
        def register_routers(self) -> None:
            return None

    outcome = manager(Sound(), Broken(), Passes()).call_sync("register_routers")
    assert outcome.values == ({"mine": dict},)
    assert [str(error) for error in outcome.errors] == [
        "plugin 'p1', hook register_routers: raised ValueError: no"
    ]


def test_no_coroutine_is_leaked_where_nothing_can_be_awaited() -> None:
    async def routers() -> dict[str, Any]:
        return {}

    class Disguised:
        @hookimpl
        def register_routers(self) -> Awaitable[dict[str, Any]]:
            return routers()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = manager(Disguised()).call_sync("register_routers")
        gc.collect()
    assert "returned an awaitable where nothing can be awaited" in str(outcome.errors[0])
    assert outcome.values == ()


@both_backends
async def test_a_call_with_the_wrong_name_or_arguments_is_refused() -> None:
    plugins = manager(select())
    with pytest.raises(PluginError, match="unknown hook 'on_evnt'; hooks: adjust_selections, "):
        await plugins.notify("on_evnt", event=EVENT)
    expected = r"hook 'select_adapters' is called with \(query\); its arguments are \(query, cand"
    for _ in range(2):
        with pytest.raises(PluginError, match=expected):
            await plugins.call_first("select_adapters", query="q")
        plugins.unregister("p0") if plugins.list_plugins() else None


@pytest.mark.parametrize("company", [0, 2])
@both_backends
async def test_a_real_cancellation_gets_through(company: int) -> None:
    cancelled: list[str] = []
    started = anyio.Event()

    class Waits:
        @hookimpl
        async def on_event(self) -> None:
            started.set()
            try:
                await anyio.sleep_forever()
            except get_cancelled_exc_class():
                cancelled.append("hook")
                raise

    plugins = manager(*[Waits() for _ in range(company + 1)], hook_timeout_s=None)
    async with anyio.create_task_group() as tasks:

        async def notify() -> None:
            try:
                await plugins.notify("on_event", event=EVENT)
            finally:
                cancelled.append("caller")

        tasks.start_soon(notify)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert cancelled == ["hook"] * (company + 1) + ["caller"]


@pytest.mark.parametrize("company", [0, 1])
@both_backends
async def test_a_made_up_cancellation_is_the_plugins_own_error(company: int) -> None:
    class Leftover:
        @hookimpl
        async def on_event(self) -> None:
            with CancelScope() as scope:
                scope.cancel()
                try:
                    await anyio.sleep_forever()
                except get_cancelled_exc_class() as error:
                    leftover = error
            raise leftover

    class Healthy:
        @hookimpl
        async def on_event(self) -> str:
            return "heard"

    plugins = manager(Leftover(), *[Healthy() for _ in range(company)])
    outcome = await plugins.notify("on_event", event=EVENT)
    assert "was cancelled by what it awaited" in str(outcome.errors[0])
    assert outcome.values == ("heard",) * company


def test_a_native_asyncio_cancellation_gets_through() -> None:
    async def main() -> None:
        plugins = manager(select_async("hang"), hook_timeout_s=None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT_S):
                await plugins.call_first("select_adapters", **ARGUMENTS)

    anyio.run(main)


@pytest.mark.parametrize("company", [0, 1])
@both_backends
async def test_what_is_no_exception_is_not_caught(company: int) -> None:
    class NoOrdinaryError(BaseException):
        pass

    class Explodes:
        @hookimpl
        async def on_event(self) -> None:
            raise NoOrdinaryError

    class Healthy:
        @hookimpl
        async def on_event(self) -> None:
            pass

    plugins = manager(Explodes(), *[Healthy() for _ in range(company)])
    with pytest.raises(NoOrdinaryError):
        await plugins.notify("on_event", event=EVENT)


@both_backends
async def test_an_error_while_timing_out_is_the_timeouts_cause() -> None:
    class BreaksOnCancel:
        @hookimpl
        async def on_event(self) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("clean-up")

    plugins = manager(BreaksOnCancel(), hook_timeout_s=SHORT_S)
    outcome = await plugins.notify("on_event", event=EVENT)
    assert "did not answer within" in str(outcome.errors[0])
    assert isinstance(outcome.errors[0].__cause__, ValueError)


@both_backends
async def test_the_bus_tells_plugins_of_an_event_before_its_handlers_run() -> None:
    order: list[str] = []

    class Hears:
        @hookimpl
        async def on_event(self, event: MemoryEvent) -> None:
            order.append(f"plugin {event.text}")

    class Raises:
        @hookimpl
        def on_event(self) -> None:
            raise ValueError

    class Hangs:
        @hookimpl
        async def on_event(self) -> None:
            await anyio.sleep_forever()

    plugins = manager(Raises(), Hears(), Hangs(), hook_timeout_s=SHORT_S)
    async with MemoryBus(plugins=plugins) as bus:
        bus.register_handler(None, lambda e: order.append(f"handler {e.text}"), in_thread=False)
        assert (await bus.publish(MemoryEvent.from_text("x"))).ok
        bus.suspend("stop")
        await bus.publish(MemoryEvent.from_text("unheard"))
    assert order == ["plugin x", "handler x"]


@both_backends
async def test_a_plugin_may_publish_when_it_hears_of_an_event() -> None:
    texts: list[str] = []

    class Echoes:
        @hookimpl
        async def on_event(self, event: MemoryEvent) -> None:
            if event.parent_id is None:
                await bus.publish(MemoryEvent.from_text("echo", session_id="s"))

    async with MemoryBus(plugins=manager(Echoes())) as bus:
        bus.register_handler(None, lambda event: texts.append(event.text), in_thread=False)
        await bus.publish(MemoryEvent.from_text("x", session_id="s"))
    assert texts == ["echo", "x"]
