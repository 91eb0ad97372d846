"""Plugins are checked before they are registered, listed, replaced and blocked."""

from __future__ import annotations

import sys
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pluggy
import pytest

from intrinsic.errors import ConfigError, PluginError, PluginLoadError
from intrinsic.events import MemoryEvent
from intrinsic.hookspecs import hookimpl
from intrinsic.plugins import PluginInfo, PluginManager, manager


class Listener:
    """A sound plugin."""

    __version__ = "1.2"

    @hookimpl
    def on_event(self, event: MemoryEvent) -> None:
        pass

    @hookimpl
    def select_adapters(self) -> None:
        pass


class Other:
    @hookimpl
    def on_event(self) -> None:
        pass


def test_a_plugin_is_listed_with_name_version_source_and_hooks() -> None:
    plugins = PluginManager()
    module = types.ModuleType("a_module")
    module.on_event = hookimpl(lambda: None)  # type: ignore[attr-defined]
    assert plugins.register(Listener()) == "Listener"
    assert plugins.register(Other(), name="other") == "other"
    assert plugins.register(module) == "a_module"
    assert plugins.list_plugins() == [
        PluginInfo("Listener", "1.2", "registered", ("on_event", "select_adapters")),
        PluginInfo("other", None, "registered", ("on_event",)),
        PluginInfo("a_module", None, "registered", ("on_event",)),
    ]


def test_an_unregistered_plugin_is_gone() -> None:
    plugins = PluginManager()
    plugins.register(Listener(), "a")
    assert plugins.has("on_event")
    plugins.unregister("a")
    assert not plugins.has("on_event")
    assert plugins.list_plugins() == []
    plugins.register(Listener(), "a")
    assert plugins.has("on_event")
    with pytest.raises(PluginError, match="unknown plugin 'b'; registered: a"):
        plugins.unregister("b")


def test_a_blocked_plugin_goes_and_does_not_come_back() -> None:
    plugins = PluginManager()
    plugins.register(Listener(), "a")
    plugins.block("a")
    plugins.block("never there")
    assert plugins.list_plugins() == []
    assert plugins.register(Listener(), "a") is None
    assert not plugins.has("on_event")


def test_a_name_or_a_plugin_is_registered_once() -> None:
    plugins = PluginManager()
    plugin = Listener()
    plugins.register(plugin, "a")
    with pytest.raises(PluginLoadError, match="plugin name 'a' is taken by registered"):
        plugins.register(Listener(), "a")
    with pytest.raises(PluginLoadError, match="plugin 'b' is registered already, as 'a'"):
        plugins.register(plugin, "b")


class UnknownHook:
    @hookimpl
    def on_evnt(self) -> None:
        pass


class UnknownArgument:
    @hookimpl
    def on_event(self, event: MemoryEvent, evnt: object, more: object) -> None:
        pass


class Wrapper:
    @hookimpl(wrapper=True)
    def on_event(self) -> Iterator[None]:
        yield


class OldWrapper:
    @hookimpl(hookwrapper=True)
    def on_event(self) -> Iterator[None]:
        yield


class Generator:
    @hookimpl
    def on_event(self) -> Iterator[None]:
        yield


class AsyncGenerator:
    @hookimpl
    async def on_event(self) -> AsyncIterator[None]:
        yield


class AsyncRegistration:
    @hookimpl
    async def register_routers(self) -> dict[str, Any]:
        return {}


class NoHooks:
    def on_event(self) -> None:
        pass


@pytest.mark.parametrize(
    ("plugin", "problem"),
    [
        (UnknownHook(), "unknown hook 'on_evnt'; did you mean 'on_event'?; hooks: adjust_selecti"),
        (UnknownArgument(), "hook 'on_event' has no argument 'evnt', 'more'; it can take any of: "),
        (Wrapper(), "hook 'on_event' is implemented as a wrapper, which is not supported"),
        (OldWrapper(), "hook 'on_event' is implemented as a wrapper, which is not supported"),
        (Generator(), "hook 'on_event' is implemented as a generator; return the answer"),
        (AsyncGenerator(), "hook 'on_event' is implemented as a generator; return the answer"),
        (AsyncRegistration(), "hook 'register_routers' is called without an event loop"),
        (NoHooks(), "plugin 'bad' implements no hook; mark functions with @intrinsic.hookspecs."),
        ("text", "plugin 'bad' implements no hook"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_an_unsound_plugin_is_refused_whole_and_the_message_tells_what_is_valid(
    plugin: object, problem: str
) -> None:
    plugins = PluginManager()
    with pytest.raises(PluginLoadError) as caught:
        plugins.register(plugin, "bad")
    assert problem in str(caught.value)
    assert plugins.list_plugins() == []
    assert not plugins.has("on_event")
    assert plugins.register(Listener(), "bad") == "bad"


def test_the_message_names_file_and_line_of_the_function() -> None:
    line = UnknownHook.on_evnt.__code__.co_firstlineno
    with pytest.raises(PluginLoadError, match=f"test_registering.py:{line}: unknown hook"):
        PluginManager().register(UnknownHook())


def test_an_optional_hook_of_another_version_is_let_through() -> None:
    class FromTheFuture:
        @hookimpl(optionalhook=True)
        def on_something_new(self, thing: object) -> None:
            pass

    plugins = PluginManager()
    plugins.register(FromTheFuture())
    assert plugins.list_plugins()[0].hooks == ("on_something_new",)
    assert not plugins.has("on_something_new")
    with pytest.raises(PluginLoadError, match=r"unknown hook 'on_evnt'; .*hooks: adjust") as caught:
        plugins.register(UnknownHook())
    assert "on_something_new" not in str(caught.value)


def test_an_implementation_may_have_another_name_than_its_hook() -> None:
    class Renamed:
        @hookimpl(specname="on_event")
        def anything(self, event: MemoryEvent) -> None:
            pass

    plugins = PluginManager()
    plugins.register(Renamed())
    assert plugins.list_plugins()[0].hooks == ("on_event",)
    assert plugins.has("on_event")


def test_built_in_plugins_are_listed_as_such_and_can_be_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("a_package.a_builtin")
    module.on_event = hookimpl(lambda: None)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_package", types.ModuleType("a_package"))
    monkeypatch.setitem(sys.modules, "a_package.a_builtin", module)
    monkeypatch.setattr(manager, "BUILTIN_MODULES", ("a_package.a_builtin",))
    plugins = PluginManager.with_builtins(hook_timeout_s=1.0)
    (info,) = plugins.list_plugins()
    assert (info.name, info.source, info.hooks) == ("a_builtin", "built-in", ("on_event",))
    assert plugins.hook_timeout_s == 1.0
    plugins.unregister("a_builtin")
    plugins.register(Listener(), "a_builtin")
    assert plugins.list_plugins()[0].source == "registered"


@pytest.mark.parametrize(
    ("distribution", "version"), [("pluggy", pluggy.__version__), ("not-installed-at-all", None)]
)
def test_built_in_plugins_have_the_version_of_the_distribution(
    monkeypatch: pytest.MonkeyPatch, distribution: str, version: str | None
) -> None:
    module = types.ModuleType("a_builtin")
    module.on_event = hookimpl(lambda: None)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_builtin", module)
    monkeypatch.setattr(manager, "BUILTIN_MODULES", ("a_builtin",))
    monkeypatch.setattr(manager, "DISTRIBUTION", distribution)
    (info,) = PluginManager.with_builtins().list_plugins()
    assert info.version == version


def test_a_named_factory_of_a_later_plugin_replaces_an_earlier_one() -> None:
    def routers(**offered: object) -> object:
        class Plugin:
            @hookimpl
            def register_routers(self) -> dict[str, object]:
                return offered

        return Plugin()

    plugins = PluginManager()
    plugins.register(routers(keyword="built-in", hybrid="built-in"), "builtin")
    plugins.register(routers(keyword="mine"), "mine")
    assert plugins.factory("register_routers", "keyword", "router") == "mine"
    assert plugins.factory("register_routers", "hybrid", "router") == "built-in"
    with pytest.raises(ConfigError, match="unknown router 'llm'; known: hybrid, keyword"):
        plugins.factory("register_routers", "llm", "router")


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_a_hook_timeout_that_is_none_is_refused(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="hook_timeout_s is"):
        PluginManager(hook_timeout_s=timeout_s)
