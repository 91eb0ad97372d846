"""What can be set: everything that the constructors of the wiring take, by section."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from intrinsic.backends import GenerationOptions
from intrinsic.backends.transformers_options import TransformersOptions
from intrinsic.bus import BusOptions
from intrinsic.config.server_options import ServerOptions
from intrinsic.embedding.options import EmbeddingOptions
from intrinsic.errors import ConfigError
from intrinsic.manager import ManagerOptions
from intrinsic.routing.chat_endpoint import ChatEndpoint
from intrinsic.routing.encoder import SentenceEncoder
from intrinsic.routing.encoder_options import EncoderOptions
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.options import RouterOptions
from intrinsic.wiring import WiringOptions


@dataclass(frozen=True, slots=True)
class Project:
    """Which model, with which adapters and plugins; the bundled ones where nothing is named.

    `registry` is a SQLite file or a URL. Raises `ConfigError` for a name that is empty, and for a
    URL that cannot be understood.
    """

    model: str | None = None
    backend: str = "transformers"
    embedder: str = "sentence-transformers"
    adapters: Path | None = None
    registry: str | None = None
    plugins: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name in ("model", "backend", "embedder", "registry"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise ConfigError(f"{name} is empty; leave it out, or name one")
        if self.registry is not None and "://" in self.registry:
            from intrinsic.registry.store.location import Location

            Location.of(self.registry)


@dataclass(frozen=True, slots=True)
class Section:
    """The keys under `name` that are the parameters of `takes`, which checks them."""

    name: str
    takes: Callable[..., object]


SECTIONS = (
    Section("", Project),
    Section("routing", WiringOptions),
    Section("routing", RouterOptions),
    Section("llm", LLMOptions),
    Section("llm.endpoint", ChatEndpoint),
    Section("manager", ManagerOptions),
    Section("encoder", SentenceEncoder),
    Section("encoder", EncoderOptions),
    Section("embedding", EmbeddingOptions),
    Section("bus", BusOptions),
    Section("generation", GenerationOptions),
    Section("transformers", TransformersOptions),
    Section("server", ServerOptions),
)
"""A parameter that is itself made of a section's keys is no key."""

UNCHECKED = (SentenceEncoder,)
"""What is checked when it is made, as it costs something."""
