"""The settings of one run: read once, checked, and the same until its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from intrinsic.backends import GenerationOptions, ModelBackend
from intrinsic.backends.transformers_options import TransformersOptions
from intrinsic.bundled import BUNDLED_NAME, base_path
from intrinsic.bus import BusOptions, MemoryBus
from intrinsic.config.keys import KEYS, Key, keys_of
from intrinsic.config.sections import Project
from intrinsic.config.server_options import ServerOptions
from intrinsic.config.wording import plain, shown, unknown
from intrinsic.embedding.options import EmbeddingOptions
from intrinsic.errors import ConfigError
from intrinsic.manager import ManagerOptions
from intrinsic.routing.calibration import Calibration
from intrinsic.routing.encoder_options import EncoderOptions
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.options import RouterOptions
from intrinsic.wiring import WiringOptions, make_plugins
from intrinsic.wiring.offering import taken

if TYPE_CHECKING:
    from intrinsic.plugins import PluginManager
    from intrinsic.routing.router import Embedder

DEFAULT = "default"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key with its value, as it may be shown, and where that came from."""

    key: Key
    text: str
    plain: Any
    origin: str


@dataclass(frozen=True, repr=False)
class Settings:
    """All settings, frozen; `load_settings` makes them. Equal ones have the same values.

    `values` has that of every key by path, secrets as `SecretStr`; `origins` where those came from
    that were said somewhere.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str] = field(compare=False)
    made: Mapping[Any, Any] = field(compare=False)

    def value(self, path: str) -> Any:  # noqa: ANN401
        """The value of a key. Raises `ConfigError` for an unknown one."""
        return self.values[_known(path).path]

    def origin(self, path: str) -> str:
        """Where it came from: a flag, a variable, a file, or "default". Raises `ConfigError`."""
        return self.origins.get(_known(path).path, DEFAULT)

    def __iter__(self) -> Iterator[Setting]:
        """Every key, in the order of the documentation; secrets are hidden."""
        for key in KEYS.values():
            value = self.values[key.path]
            yield Setting(key, shown(key, value), plain(value), self.origin(key.path))

    def __repr__(self) -> str:
        """What was said, and where; no secrets."""
        said = (
            f"{one.key.path}={one.text} ({one.origin})" for one in self if one.origin != DEFAULT
        )
        return f"Settings({', '.join(said)})"

    @property
    def project(self) -> Project:
        """Model, backend, encoder, adapters, registry, plugins."""
        return self._made(Project)

    def router_options(self, *, calibrated: bool = True) -> RouterOptions | None:
        """The router's settings; None where none was said, as not every router takes some.

        The calibration's file is read at the first call. Raises `ConfigError` where that fails.
        """
        said = {key.path for key in keys_of(RouterOptions).values()} & self.origins.keys()
        if not calibrated:
            said.discard("routing.calibration")
        if not said:
            return None
        options = self._made(RouterOptions)
        return replace(options, calibration=self._calibration) if calibrated else options

    def llm_options(self) -> LLMOptions:
        """Those of routers that ask a language model."""
        return self._made(LLMOptions)

    def wiring_options(self) -> WiringOptions:
        """Those of `setup_weight_interface`. Raises `ConfigError` as `router_options` does."""
        return replace(
            self._made(WiringOptions),
            routing=self.router_options(),
            llm=self.llm_options(),
            manager=self._made(ManagerOptions),
        )

    def encoder_options(self) -> EncoderOptions:
        """Those of the `SentenceEncoder`."""
        return self._made(EncoderOptions)

    def embedding_options(self) -> EmbeddingOptions:
        """Those of the `EmbeddingProvider`."""
        return self._made(EmbeddingOptions)

    def generation_options(self) -> GenerationOptions:
        """How to decode."""
        return self._made(GenerationOptions)

    def server_options(self) -> ServerOptions:
        """Those of the HTTP service."""
        return self._made(ServerOptions)

    def bus_options(self) -> BusOptions:
        """Those of the bus."""
        return self._made(BusOptions)

    def bus(self, *, plugins: PluginManager | None = None) -> MemoryBus:
        """A new bus."""
        return MemoryBus(self.bus_options(), plugins=plugins)

    def plugins(self) -> PluginManager:
        """The built-in and installed plugins and those of the named folders, loaded now."""
        return make_plugins(self.project.plugins)

    def embedder(self, plugins: PluginManager) -> Embedder:
        """The router's text encoder, not loaded yet. Raises `ConfigError` for an unknown one."""
        make = plugins.factory("register_embedders", self.project.embedder, "embedder")
        offered = {"encoder": self.encoder_options(), "embedding": self.embedding_options()}
        given = taken(make, offered)
        # Settings of an `EmbeddingProvider` name its model themselves.
        model = None if given.keys() == {"embedding"} else self.values["encoder.model"]
        return cast("Embedder", make(model and str(model), **given))

    def backend(self, plugins: PluginManager) -> ModelBackend:
        """The model, loaded now; the bundled one is also found by the name its adapters give it.

        Raises `ConfigError` for an unknown backend, `BackendError` for a model that cannot be
        loaded.
        """
        make = plugins.factory("register_backends", self.project.backend, "backend")
        model = self.project.model
        offered = {"transformers": self._made(TransformersOptions)}
        source = str(base_path()) if model in (None, BUNDLED_NAME) else model
        return cast(ModelBackend, make(source, **taken(make, offered)))

    @cached_property
    def _calibration(self) -> Calibration | None:
        path = self.value("routing.calibration")
        return None if path is None else Calibration.load(path)

    def _made(self, takes: type[_T]) -> _T:
        return cast(_T, self.made[takes])


def _known(path: str) -> Key:
    if path not in KEYS:
        raise ConfigError(unknown(path))
    return KEYS[path]
