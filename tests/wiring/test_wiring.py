"""An event in, a receipt out: what the wiring of bus, router and manager promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from intrinsic.bus import MemoryBus
from intrinsic.card import AdapterCard
from intrinsic.errors import ConfigError, RoutingError
from intrinsic.events import InjectionChannel, MemoryEvent, MemoryVector
from intrinsic.hookspecs import hookimpl
from intrinsic.mixture import BASE, Mixture
from intrinsic.plugins import PluginManager
from intrinsic.receipt import Receipt
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection
from intrinsic.wiring import (
    PluginRouter,
    WeightInterface,
    WiringOptions,
    make_plugins,
    setup_weight_interface,
)
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of
from tests.tiny import write_files


class ByLetter:
    """Chooses the adapters whose name is a word of the query, and fails when told to."""

    def __init__(self) -> None:
        self.contexts: list[RouteContext] = []

    async def route(
        self,
        query: str,
        *,
        candidates: Sequence[AdapterCard],
        top_k: int = 1,
        context: RouteContext = NO_CONTEXT,
    ) -> list[Selection]:
        self.contexts.append(context)
        if "fail" in query:
            raise RoutingError("told to")
        fitting = [Selection(c.name, 0.9, 1.0) for c in candidates if c.name in query.split()]
        return fitting[:top_k]


class Nothing:
    """A router that answers nonsense."""

    async def route(self, query: str, **others: object) -> Any:
        return None


class LetterPlugin:
    """Gives the router `letter`."""

    def __init__(self) -> None:
        self.router = ByLetter()

    @hookimpl
    def register_routers(self) -> Mapping[str, Any]:
        return {"letter": lambda embedder: self.router}


class NoEmbedder:
    dimension = 1

    async def embed(self, texts: Sequence[str]) -> Any:
        raise AssertionError("nothing is embedded here")


def wire(
    folder: Path, bus: MemoryBus, *plugins: object, names: str = "abc"
) -> tuple[WeightInterface, FakeBackend, ByLetter]:
    backend = FakeBackend()
    letters = LetterPlugin()
    manager = PluginManager.with_builtins()
    for plugin in (letters, *plugins):
        manager.register(plugin)
    interface = setup_weight_interface(
        bus,
        backend,
        registry_of(folder, names, max_loaded=3),
        NoEmbedder(),
        options=WiringOptions(router="letter"),
        plugins=manager,
    )
    return interface, backend, letters.router


async def receipt_of(bus: MemoryBus, event: MemoryEvent) -> Receipt:
    report = await bus.publish(event)
    assert isinstance(report.value, Receipt), report
    return report.value


@both_backends
async def test_an_event_becomes_a_mixture_that_its_request_generates_under(
    tmp_path: Path,
) -> None:
    async with MemoryBus() as bus:
        (manager, router), _, letters = wire(tmp_path, bus)
        event = MemoryEvent.from_text("a b c", request_id="r", session_id="s")
        receipt = await receipt_of(bus, event)
        assert receipt.mixture == Mixture.of({"a@1": 1.0, "b@1": 1.0})
        assert receipt.request_id == "r"
        assert receipt.route_ms > 0
        async with manager.lease(event) as lease:
            assert lease.mixture == receipt.mixture
        (context,) = letters.contexts
        assert (context.request_id, context.session_id) == ("r", "s")
        assert context.memories == event.vectors
        assert isinstance(router, PluginRouter)


@both_backends
async def test_none_fits_is_the_base_model(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        (manager, _), backend, _ = wire(tmp_path, bus)
        event = MemoryEvent.from_text("nothing of that kind")
        assert (await receipt_of(bus, event)).mixture == BASE
        async with manager.lease(event) as lease:
            assert lease.mixture == BASE
        assert backend.loaded == []


@both_backends
async def test_a_router_that_fails_costs_the_adapters_not_the_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with MemoryBus() as bus:
        wire(tmp_path, bus)
        receipt = await receipt_of(bus, MemoryEvent.from_text("fail a"))
        assert receipt.mixture == BASE
        assert receipt.skipped[0].what == "router"
        assert "RoutingError: told to" in receipt.skipped[0].why
        assert "routing failed, the base model answers" in caplog.text
        assert (await receipt_of(bus, MemoryEvent.from_text("a"))).mixture


@both_backends
async def test_the_kill_switch_leaves_the_base_model_until_it_is_released(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        (manager, _), _, _ = wire(tmp_path, bus)
        await manager.set_active("b")
        bus.suspend("incident")
        event = MemoryEvent.from_text("a")
        report = await bus.publish(event)
        assert (report.suspended, report.value) == ("incident", None)
        for what in (event, None):
            async with manager.lease(what) as lease:
                assert lease.mixture == BASE
        bus.resume()
        async with manager.lease() as lease:
            assert lease.adapters == ("b@1",)
        await bus.publish(event)
        async with manager.lease(event) as lease:
            assert lease.adapters == ("a@1",)


@both_backends
async def test_the_kill_switch_holds_for_a_request_that_was_routed_before(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        (manager, _), _, _ = wire(tmp_path, bus)
        await bus.publish(MemoryEvent.from_text("a", request_id="r"))
        bus.suspend("incident")
        later = MemoryEvent.from_text("a", request_id="r")
        await bus.publish(later)
        async with manager.lease(later) as lease:
            assert lease.mixture == BASE


@both_backends
async def test_a_kill_switch_that_was_thrown_before_the_wiring_holds(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        bus.suspend("incident")
        (manager, _), _, _ = wire(tmp_path, bus)
        await manager.set_active("a")
        async with manager.lease() as lease:
            assert lease.mixture == BASE
        bus.resume()
        async with manager.lease() as lease:
            assert lease.adapters == ("a@1",)


@both_backends
async def test_a_router_that_answers_nonsense_costs_the_adapters_only(tmp_path: Path) -> None:
    class Plugin:
        @hookimpl(tryfirst=True)
        def register_routers(self) -> Mapping[str, Any]:
            return {"letter": lambda embedder: Nothing()}

    async with MemoryBus() as bus:
        wire(tmp_path, bus, Plugin())
        receipt = await receipt_of(bus, MemoryEvent.from_text("a"))
        assert receipt.mixture == BASE
        assert "the router answered None" in receipt.skipped[0].why


@both_backends
async def test_shadow_mode_routes_records_and_applies_nothing(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        (manager, _), backend, _ = wire(tmp_path, bus)
        bus.set_shadow(True)
        event = MemoryEvent.from_text("a")
        receipt = await receipt_of(bus, event)
        assert receipt.shadow
        assert receipt.selections[0].adapter == "a"
        async with manager.lease(event) as lease:
            assert lease.mixture == BASE
        bus.set_shadow(False)
        one = MemoryEvent.from_text("a", metadata={"shadow": True})
        assert (await receipt_of(bus, one)).shadow
        assert backend.loaded == []


@both_backends
async def test_adapters_come_and_go_while_it_runs(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        (manager, _), _, _ = wire(tmp_path, bus, names="a")
        assert not (await receipt_of(bus, MemoryEvent.from_text("z"))).mixture
        manager.registry.register_adapter(write_files(tmp_path / "z", {}), name="z")
        assert (await receipt_of(bus, MemoryEvent.from_text("z"))).mixture
        manager.registry.remove_adapter("z")
        assert not (await receipt_of(bus, MemoryEvent.from_text("z"))).mixture


@both_backends
async def test_a_memory_may_name_its_adapter_by_path(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        (manager, _), _, _ = wire(tmp_path, bus, names="a")
        new = write_files(tmp_path / "new", {})
        vectors = (
            MemoryVector("m1", "x", lora_adapter_path=str(new), injection_strength=0.5),
            MemoryVector("m2", "x", lora_adapter_path=str(tmp_path / "a")),
            MemoryVector("m3", "x", lora_adapter_path=str(tmp_path / "nowhere")),
            MemoryVector("m4", "plain"),
        )
        event = MemoryEvent(InjectionChannel.DYNAMIC_LORA, vectors)
        for _ in range(2):
            receipt = await receipt_of(bus, event)
            assert receipt.mixture == Mixture.of({"new@1": 0.5, "a@1": 1.0})
            assert receipt.skipped[0].what == str(tmp_path / "nowhere")
        assert len(manager.registry) == 2


@both_backends
async def test_plugins_choose_adjust_and_hear(tmp_path: Path) -> None:
    heard: list[object] = []

    class Decider:
        @hookimpl
        async def select_adapters(self, query: str) -> list[Selection] | None:
            return [Selection("c", 0.8)] if "please c" in query else None

        @hookimpl
        def adjust_selections(self, selections: Sequence[Selection]) -> list[Selection] | None:
            return [Selection(s.adapter, s.confidence, 0.5) for s in selections]

        @hookimpl
        def on_route(self, query: str, selections: Sequence[Selection]) -> None:
            heard.append((query, [s.adapter for s in selections]))

        @hookimpl
        def on_event(self, event: MemoryEvent) -> None:
            heard.append(event.text)

    async with MemoryBus() as bus:
        wire(tmp_path, bus, Decider())
        receipt = await receipt_of(bus, MemoryEvent.from_text("please c"))
        assert receipt.mixture == Mixture.of({"c@1": 0.5})
        receipt = await receipt_of(bus, MemoryEvent.from_text("a"))
        assert receipt.mixture == Mixture.of({"a@1": 0.5})
        assert heard == ["please c", ("please c", ["c"]), "a", ("a", ["a"])]


@both_backends
async def test_plugins_that_fail_or_answer_nonsense_are_passed_over(tmp_path: Path) -> None:
    class Broken:
        @hookimpl
        def select_adapters(self, query: str) -> list[Selection] | None:
            raise ValueError("broken")

    class Nonsense:
        @hookimpl
        def adjust_selections(self) -> str:
            return "a"

    async with MemoryBus() as bus:
        wire(tmp_path / "1", bus, Broken())
        assert (await receipt_of(bus, MemoryEvent.from_text("a"))).mixture
    async with MemoryBus() as bus:
        wire(tmp_path / "2", bus, Nonsense())
        receipt = await receipt_of(bus, MemoryEvent.from_text("a"))
        assert receipt.mixture == Mixture.of({"a@1": 1.0})


@both_backends
async def test_the_built_in_handler_can_be_replaced(tmp_path: Path) -> None:
    class Own:
        @hookimpl
        def register_handlers(self, bus: MemoryBus, interface: WeightInterface) -> None:
            async def handler(event: MemoryEvent) -> str:
                return f"mine: {event.text}"

            bus.register_handler(InjectionChannel.DYNAMIC_LORA, handler)

    plugins = PluginManager.with_builtins()
    handlers = next(p.name for p in plugins.list_plugins() if "register_handlers" in p.hooks)
    plugins.unregister(handlers)
    plugins.register(Own())
    plugins.register(LetterPlugin())
    async with MemoryBus(plugins=plugins) as bus:
        setup_weight_interface(
            bus,
            FakeBackend(),
            registry_of(tmp_path, "a"),
            NoEmbedder(),
            options=WiringOptions(router="letter"),
        )
        report = await bus.publish(MemoryEvent.from_text("a"))
        assert [result.value for result in report.results] == ["mine: a"]


@both_backends
async def test_ranking_asks_the_router_alone(tmp_path: Path) -> None:
    async with MemoryBus() as bus:
        (_, router), _, letters = wire(tmp_path, bus)
        cards = [AdapterCard("a"), AdapterCard("b"), AdapterCard("c")]
        assert len(await router.rank("a b c", candidates=cards)) == 3
        assert len(await router.route("a b c", candidates=cards)) == 2
        assert len(await router.route("a b c", candidates=cards, top_k=1)) == 1
        assert len(letters.contexts) == 3


@both_backends
async def test_warming_up_is_passed_on_where_the_router_can(tmp_path: Path) -> None:
    warmed: list[str] = []

    class Warm(ByLetter):
        async def warm_up(self, candidates: Sequence[AdapterCard] = ()) -> None:
            warmed.extend(card.name for card in candidates)

    for router in (Warm(), ByLetter()):
        await PluginRouter(router, PluginManager()).warm_up([AdapterCard("a")])
    assert warmed == ["a"]


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="top_k is 0"):
        WiringOptions(top_k=0)
    with pytest.raises(ConfigError, match=r"unknown router 'magic'; known: .*hybrid, keyw"):
        setup_weight_interface(
            MemoryBus(),
            FakeBackend(),
            registry_of(tmp_path, "a"),
            options=WiringOptions(router="magic"),
        )


def test_built_in_plugins_are_listed_with_their_hooks() -> None:
    hooks = {hook for info in make_plugins().list_plugins() for hook in info.hooks}
    assert {
        "register_handlers",
        "register_routers",
        "register_backends",
        "register_embedders",
    } <= hooks


@both_backends
@pytest.mark.parametrize("query", ["a", "fail"])
async def test_the_receipt_says_what_a_plugin_left_out(tmp_path: Path, query: str) -> None:
    class Plugin:
        @hookimpl
        def adjust_selections(self, context: RouteContext) -> None:
            context.note("mine", "it did not fit")

        @hookimpl(tryfirst=True)
        def select_adapters(self, query: str, context: RouteContext) -> None:
            context.note("first", query)

    async with MemoryBus() as bus:
        wire(tmp_path, bus, Plugin())
        receipt = await receipt_of(bus, MemoryEvent.from_text(query))
        noted = [(one.what, one.why) for one in receipt.skipped]
        assert noted[0] == ("first", query)
        if query == "a":
            assert noted[1:] == [("mine", "it did not fit")]
        else:
            assert [what for what, _ in noted[1:]] == ["router"]
        again = await receipt_of(bus, MemoryEvent.from_text("a"))
        assert len(again.skipped) == 2
    NO_CONTEXT.note("nobody", "hears of it")
    assert NO_CONTEXT.notes is None
