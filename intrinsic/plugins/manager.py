"""The plugin manager: finds, checks and lists plugins, and calls their hooks."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import pluggy

from intrinsic import hookspecs
from intrinsic.errors import ConfigError, PluginError, PluginLoadError
from intrinsic.plugins.checking import check_plugin, hook_specifications
from intrinsic.plugins.loading import forget_file, import_file, plugin_files
from intrinsic.plugins.outcome import HookOutcome
from intrinsic.plugins.walker import Hook, ask, ask_all, ask_sync

BUILTIN_MODULES: tuple[str, ...] = (
    "intrinsic.builtin.handlers",
    "intrinsic.builtin.routers",
    "intrinsic.builtin.backends",
    "intrinsic.builtin.embedders",
    "intrinsic.builtin.merge_methods",
)
"""Import names of the built-in plugins, loaded by `PluginManager.with_builtins`."""

DISTRIBUTION = "intrinsic-lora"


class PluginInfo(NamedTuple):
    """A registered plugin. `source` is 'built-in', 'entry point', 'registered' or a file's path."""

    name: str
    version: str | None
    source: str
    hooks: tuple[str, ...]


class PluginManager:
    """Plugins and their hooks, on top of pluggy, which keeps their order.

    Implementations are asked as pluggy would: `tryfirst` ones, then the last registered first,
    then `trylast` ones. Each is isolated: one that raises or overruns `hook_timeout_s` leaves a
    `HookError` in the outcome, and the next is asked. A plain function runs on the event loop and
    cannot be timed out: it must not block. Problems of plugins that were found by
    `load_entry_points` or `load_folder` are in `problems`; the other plugins load.
    """

    def __init__(self, *, hook_timeout_s: float | None = 5.0) -> None:
        if hook_timeout_s is not None and not hook_timeout_s > 0:
            raise ConfigError(
                f"hook_timeout_s is {hook_timeout_s!r}; it must be a number of seconds above 0, "
                "or None for no timeout"
            )
        self.hook_timeout_s = hook_timeout_s
        self.problems: list[PluginLoadError] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._specifications = hook_specifications(self._manager)
        self._infos: dict[str, PluginInfo] = {}
        self._entry_points: set[importlib.metadata.EntryPoint] = set()
        self._hooks: dict[str, Hook] = {}

    @classmethod
    def with_builtins(cls, *, hook_timeout_s: float | None = 5.0) -> Self:
        """Build a manager that has the built-in plugins."""
        manager = cls(hook_timeout_s=hook_timeout_s)
        version = _own_version()
        for import_name in BUILTIN_MODULES:
            plugin = importlib.import_module(import_name)
            manager._add(plugin, import_name.rpartition(".")[2], version, "built-in")
        return manager

    # -- finding -------------------------------------------------------------------------------

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Register a module or an object with hooks; returns its name, None if that is blocked.

        Raises `PluginLoadError` where it is not sound, or where the name is taken.
        """
        return self._add(plugin, name or _name_of(plugin), _version_of(plugin), "registered")

    def unregister(self, name: str) -> None:
        """Remove a plugin. Raises `PluginError` where there is none of that name."""
        if name not in self._infos:
            known = ", ".join(sorted(self._infos)) or "none"
            raise PluginError(f"unknown plugin {name!r}; registered: {known}")
        del self._infos[name]
        self._manager.unregister(name=name)
        self._refresh()

    def block(self, name: str) -> None:
        """Remove the plugin of that name, if there is one, and keep it from coming back."""
        self._infos.pop(name, None)
        self._manager.set_blocked(name)
        self._refresh()

    def load_entry_points(self, group: str = "intrinsic") -> list[str]:
        """Register what installed distributions offer, in order of the names, each once.

        Returns the names; what did not load is in `problems`.
        """
        names = []
        for point in sorted(importlib.metadata.entry_points(group=group), key=lambda p: p.name):
            if self._manager.is_blocked(point.name) or point in self._entry_points:
                continue
            self._entry_points.add(point)
            try:
                plugin = point.load()
                version = _version_of(plugin) if point.dist is None else point.dist.version
                self._add(plugin, point.name, version, "entry point")
            except (Exception, SystemExit) as error:
                self._report(f"entry point {point.name!r} ({point.value})", error)
            else:
                names.append(point.name)
        return names

    def load_folder(self, path: str | Path) -> list[str]:
        """Run and register every `*.py` file of a folder, in order of their names.

        Files whose names start with `_` are left out, and so are files that are registered
        already. Returns the names; what did not load is in `problems`. Raises `ConfigError` where
        there is no such folder.
        """
        names = []
        loaded = {info.source for info in self._infos.values()}
        for file in plugin_files(Path(path)):
            name = file.stem if file.stem not in self._infos else f"{file.stem} ({file.parent})"
            if self._manager.is_blocked(name) or str(file) in loaded:
                continue
            try:
                module = import_file(file)
                self._add(module, name, _version_of(module), str(file))
            except PluginLoadError as error:
                forget_file(file)
                self.problems.append(error)
            else:
                names.append(name)
        return names

    def list_plugins(self) -> list[PluginInfo]:
        """The registered plugins, in order of registration."""
        return list(self._infos.values())

    # -- calling -------------------------------------------------------------------------------

    def has(self, hook: str) -> bool:
        """Whether any plugin implements the hook; costs one dictionary lookup."""
        return hook in self._hooks

    async def call_first(self, hook: str, **arguments: object) -> HookOutcome:
        """Ask one after the other until one answers with something other than None."""
        results = []
        found = self._hook(hook, arguments)
        for implementation in found.implementations:
            result = await ask(found, implementation, arguments, self.hook_timeout_s)
            results.append(result)
            if result.value is not None:
                return HookOutcome(hook, tuple(results), result.value)
        return HookOutcome(hook, tuple(results))

    async def call_chain(
        self, hook: str, value_name: str, value: object, **arguments: object
    ) -> HookOutcome:
        """Pass `value` through all, as the argument `value_name`; None leaves it as it is."""
        results = []
        found = self._hook(hook, {**arguments, value_name: value})
        for implementation in found.implementations:
            passed = {**arguments, value_name: value}
            result = await ask(found, implementation, passed, self.hook_timeout_s)
            results.append(result)
            if result.value is not None:
                value = result.value
        return HookOutcome(hook, tuple(results), value)

    async def notify(self, hook: str, **arguments: object) -> HookOutcome:
        """Tell all; the async ones side by side, so that a slow one delays no other."""
        found = self._hook(hook, arguments)
        if not found.implementations:
            return HookOutcome(hook)
        return HookOutcome(hook, await ask_all(found, arguments, self.hook_timeout_s))

    def call_sync(self, hook: str, **arguments: object) -> HookOutcome:
        """Ask all without an event loop, for the `register_*` family."""
        found = self._hook(hook, arguments)
        results = [ask_sync(found, each, arguments) for each in found.implementations]
        return HookOutcome(hook, tuple(results))

    # -- inside --------------------------------------------------------------------------------

    def factory(self, hook: str, name: str, kind: str) -> Any:  # noqa: ANN401
        """What the plugins registered under `name` through a `register_*` hook that maps names.

        Of several the first asked wins, so that a plugin replaces a built-in. Raises `ConfigError`
        with the known names, in which `kind` says what was looked for.
        """
        known: dict[str, Any] = {}
        for offered in self.call_sync(hook).values:
            if isinstance(offered, Mapping):
                known = {**offered, **known}
        if name not in known:
            raise ConfigError(f"unknown {kind} {name!r}; known: {', '.join(sorted(known))}")
        return known[name]

    def _add(self, plugin: object, name: str, version: str | None, source: str) -> str | None:
        if self._manager.is_blocked(name):
            return None
        if name in self._infos:
            raise PluginLoadError(
                f"plugin name {name!r} is taken by {self._infos[name].source}; "
                "unregister that one first or choose another name"
            )
        if self._manager.is_registered(plugin):
            taken = self._manager.get_name(plugin)
            raise PluginLoadError(f"plugin {name!r} is registered already, as {taken!r}")
        hooks = check_plugin(self._manager, self._specifications, plugin, name)
        self._manager.register(plugin, name)
        self._infos[name] = PluginInfo(name, version, source, hooks)
        self._refresh()
        return name

    def _refresh(self) -> None:
        self._hooks.clear()
        for name, arguments in self._specifications.items():
            implementations = getattr(self._manager.hook, name).get_hookimpls()
            if implementations:
                ordered = tuple(reversed(implementations))
                self._hooks[name] = Hook(name, frozenset(arguments), ordered)

    def _hook(self, name: str, arguments: dict[str, object]) -> Hook:
        found = self._hooks.get(name)
        if found is not None and arguments.keys() == found.arguments:
            return found
        if name not in self._specifications:
            raise PluginError(f"unknown hook {name!r}; hooks: {', '.join(self._specifications)}")
        expected = self._specifications[name]
        if arguments.keys() != set(expected):
            raise PluginError(
                f"hook {name!r} is called with ({', '.join(arguments)}); "
                f"its arguments are ({', '.join(expected)})"
            )
        return Hook(name, frozenset(expected), ())

    def _report(self, what: str, error: BaseException) -> None:
        problem = PluginLoadError(f"{what}: {type(error).__name__}: {error}")
        problem.__cause__ = error
        self.problems.append(problem)


def _name_of(plugin: object) -> str:
    if inspect.ismodule(plugin) or inspect.isclass(plugin):
        return plugin.__name__
    return type(plugin).__qualname__


def _version_of(plugin: object) -> str | None:
    version = getattr(plugin, "__version__", None)
    return None if version is None else str(version)


def _own_version() -> str | None:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:  # running from a source tree
        return None
