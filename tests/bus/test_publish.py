"""Publishing: every handler's result, in order."""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable

import pytest

from intrinsic.bus import BusOptions, MemoryBus
from intrinsic.errors import BusClosedError, ConfigError, EventError
from intrinsic.events import InjectionChannel, MemoryEvent
from tests.bus.backends import both_backends

LORA = InjectionChannel.DYNAMIC_LORA
KNN = InjectionChannel.KNN_LM


async def echo(event: MemoryEvent) -> str:
    return event.text


@both_backends
async def test_returns_what_each_handler_returned_in_order_of_registration() -> None:
    async def first(event: MemoryEvent) -> str:
        return event.text + "1"

    def second(event: MemoryEvent) -> str:
        return event.text + "2"

    async with MemoryBus() as bus:
        bus.register_handler(LORA, first)
        bus.register_handler(None, second, name="second")
        bus.register_handler(KNN, first)
        event = MemoryEvent.from_text("x")
        report = await bus.publish(event)
    assert [result.value for result in report.results] == ["x1", "x2"]
    assert [result.ok for result in report.results] == [True, True]
    assert report.results[0].name.endswith("first")
    assert report.results[1].name == "second"
    assert report.ok
    assert report.value == "x1"
    assert report.errors == ()
    assert report.event is event
    assert all(result.duration_ms >= 0 for result in report.results)


@both_backends
async def test_wildcards_hear_every_channel_and_others_only_their_own() -> None:
    heard: list[tuple[str, InjectionChannel]] = []
    async with MemoryBus() as bus:
        for label, channel in (("star", "*"), ("none", None), ("knn", "knn_lm")):
            bus.register_handler(
                channel, functools.partial(lambda label, e: heard.append((label, e.channel)), label)
            )
        await bus.publish(MemoryEvent(LORA))
        assert sorted(heard) == [("none", LORA), ("star", LORA)]
        heard.clear()
        await bus.publish(MemoryEvent(KNN))
        assert sorted(heard) == [("knn", KNN), ("none", KNN), ("star", KNN)]


@both_backends
async def test_an_event_without_handlers_gets_an_empty_report() -> None:
    async with MemoryBus() as bus:
        report = await bus.publish(MemoryEvent(LORA))
    assert report.results == ()
    assert report.value is None
    assert report.ok


@both_backends
async def test_the_value_is_the_first_one_that_is_not_none() -> None:
    async with MemoryBus() as bus:
        bus.register_handler(LORA, lambda _: 1 / 0, in_thread=False)
        bus.register_handler(LORA, lambda _: None, in_thread=False)
        bus.register_handler(LORA, lambda _: 0, in_thread=False)
        bus.register_handler(LORA, lambda _: 5, in_thread=False)
        report = await bus.publish(MemoryEvent(LORA))
    assert report.value == 0
    assert not report.ok
    assert [type(error) for error in report.errors] == [ZeroDivisionError]


@both_backends
async def test_handlers_come_in_every_callable_shape() -> None:
    class AsyncObject:
        async def __call__(self, event: MemoryEvent) -> str:
            return "async object"

    class Methods:
        def plain(self, event: MemoryEvent) -> str:
            return "method"

    async def with_label(label: str, event: MemoryEvent) -> str:
        return label

    def returns_awaitable(event: MemoryEvent) -> Awaitable[str]:
        return echo(event)

    async with MemoryBus() as bus:
        bus.register_handler(LORA, AsyncObject())
        bus.register_handler(LORA, Methods().plain)
        bus.register_handler(LORA, functools.partial(with_label, "partial"))
        bus.register_handler(LORA, returns_awaitable)
        report = await bus.publish(MemoryEvent.from_text("echo"))
    assert [r.value for r in report.results] == ["async object", "method", "partial", "echo"]
    names = [result.name.rpartition(".")[2] for result in report.results]
    assert names == ["AsyncObject", "plain", "with_label", "returns_awaitable"]


@both_backends
async def test_sync_handlers_run_in_a_worker_thread_unless_told_otherwise() -> None:
    async with MemoryBus() as bus:
        bus.register_handler(LORA, lambda _: threading.get_ident())
        bus.register_handler(LORA, lambda _: threading.get_ident(), in_thread=False)
        report = await bus.publish(MemoryEvent(LORA))
    in_thread, inline = (result.value for result in report.results)
    assert in_thread != threading.get_ident()
    assert inline == threading.get_ident()


@both_backends
async def test_a_cancelled_subscription_gets_no_further_event() -> None:
    calls: list[str] = []
    async with MemoryBus() as bus:
        with bus.register_handler(LORA, lambda _: calls.append("a"), in_thread=False) as one:
            await bus.publish(MemoryEvent(LORA))
        two = bus.register_handler(LORA, lambda _: calls.append("b"), in_thread=False)
        await bus.publish(MemoryEvent(LORA))
        one.cancel()
        two.cancel()
        two.cancel()
        assert bus.statistics().handlers == 0
        await bus.publish(MemoryEvent(LORA))
    assert calls == ["a", "b"]


@both_backends
async def test_a_handler_cancelled_by_an_earlier_one_is_not_called_for_that_event() -> None:
    calls: list[str] = []
    async with MemoryBus() as bus:

        async def first(event: MemoryEvent) -> None:
            for subscription in subscriptions:
                subscription.cancel()

        async def other(event: MemoryEvent) -> None:
            calls.append("other")

        async def plugin_like(event: MemoryEvent) -> None:
            await bus.publish(event)

        bus.register_handler(KNN, first)
        subscriptions = [bus.register_handler(LORA, other) for _ in range(2)]
        await bus.publish(MemoryEvent(KNN))
        report = await bus.publish(MemoryEvent(LORA))
    assert report.results == ()
    assert calls == []


@both_backends
async def test_the_same_function_registered_twice_is_called_twice() -> None:
    async with MemoryBus() as bus:
        bus.register_handler(LORA, echo)
        bus.register_handler(LORA, echo)
        report = await bus.publish(MemoryEvent.from_text("x"))
    assert [result.value for result in report.results] == ["x", "x"]


@both_backends
async def test_handlers_may_be_registered_before_the_bus_is_entered() -> None:
    bus = MemoryBus()
    bus.register_handler(LORA, echo)
    async with bus:
        assert (await bus.publish(MemoryEvent.from_text("x"))).value == "x"


@both_backends
async def test_a_bus_that_is_not_open_refuses_and_says_why() -> None:
    bus = MemoryBus()
    event = MemoryEvent(LORA)
    with pytest.raises(BusClosedError, match="was not entered; use it inside 'async with'"):
        await bus.publish(event)
    async with bus:
        pass
    for refused in (bus.publish(event), bus.flush(), bus.replay()):
        with pytest.raises(BusClosedError, match="was left; build a new one"):
            await refused
    with pytest.raises(BusClosedError, match="was left"):
        bus.publish_nowait(event)
    with pytest.raises(BusClosedError, match="was left"):
        bus.enqueue(LORA, [])
    with pytest.raises(BusClosedError, match="only once"):
        async with bus:
            raise AssertionError("not reached")


@both_backends
async def test_what_is_no_event_or_channel_is_refused_in_words() -> None:
    async with MemoryBus() as bus:
        with pytest.raises(EventError, match="cannot publish dict; publish a MemoryEvent"):
            await bus.publish({"text": "x"})  # type: ignore[arg-type]
        with pytest.raises(EventError, match="the bus carries MemoryVector objects, not str"):
            await bus.publish(MemoryEvent(LORA, ("text",)))  # type: ignore[arg-type]
        with pytest.raises(EventError, match="unknown channel 'lora'; known: logit_bias, "):
            bus.register_handler("lora", echo)
        assert bus.statistics().published == 0


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan"), True, "1"])
def test_a_timeout_that_is_none_is_refused(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match=r"timeout_s is .*; it must be a number of seconds"):
        MemoryBus().register_handler(LORA, echo, timeout_s=timeout_s)
    with pytest.raises(ConfigError, match="handler_timeout_s is"):
        BusOptions(handler_timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_in_flight", 0),
        ("max_in_flight", 1.5),
        ("handler_threads", 0),
        ("max_queued", -1),
        ("max_pending", True),
        ("max_dead_letters", -1),
        ("injection_log_size", None),
        ("drain_timeout_s", -0.5),
        ("drain_timeout_s", float("nan")),
    ],
)
def test_options_that_make_no_sense_are_refused(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {value!r}; it must be"):
        BusOptions(**{option: value})  # type: ignore[arg-type]


def test_handlers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="is async and cannot run in a thread"):
        MemoryBus().register_handler(LORA, echo, in_thread=True)
    with pytest.raises(ConfigError, match="handler 'x' is not callable"):
        MemoryBus().register_handler(LORA, "x")  # type: ignore[arg-type]
