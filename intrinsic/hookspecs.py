"""Every hook of intrinsic, with nothing else in this file.

Hooks of the families 'decisions' and 'notifications' may be plain functions or coroutines; they
are called through `intrinsic.plugins.PluginManager`, which awaits, times out and isolates each.
An implementation takes those of the arguments that it needs, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from intrinsic.card import AdapterCard
from intrinsic.events import MemoryEvent
from intrinsic.receipt import Receipt
from intrinsic.selection import RouteContext, Selection

if TYPE_CHECKING:
    from intrinsic.bus import MemoryBus

PROJECT = "intrinsic"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_handlers(bus: MemoryBus, interface: Any) -> None:  # noqa: ANN401
    """Register handlers on `bus`; `interface` is the wiring's (manager, router), or None."""


@hookspec
def register_routers() -> Mapping[str, Callable[..., Any]]:  # type: ignore[empty-body]
    """Return routers by name, each a factory `(embedder) -> Router`."""


@hookspec
def register_backends() -> Mapping[str, Callable[..., Any]]:  # type: ignore[empty-body]
    """Return model backends by name, each a factory `(model: str) -> ModelBackend`.

    One that takes `transformers` as a keyword gets those settings, a `TransformersOptions`.
    """


@hookspec
def register_merge_methods() -> Mapping[str, Callable[..., Any]]:  # type: ignore[empty-body]
    """Return merge methods by name, each a function on weight deltas."""


@hookspec
def register_embedders() -> Mapping[str, Callable[..., Any]]:  # type: ignore[empty-body]
    """Return text encoders by name, each a factory `(model: str | None) -> Embedder`.

    One that takes `encoder` (`EncoderOptions`) or `embedding` (`EmbeddingOptions`) as keywords gets
    those settings.
    """


@hookspec
def register_commands(app: Any) -> None:  # noqa: ANN401
    """Add commands to the command line; `app` is its Typer application."""


@hookspec
def select_adapters(
    query: str, candidates: Sequence[AdapterCard], top_k: int, context: RouteContext
) -> list[Selection] | None:
    """Choose adapters instead of the router: a list stands ([] means none fits), None passes."""


@hookspec
def adjust_selections(
    query: str, selections: Sequence[Selection], context: RouteContext
) -> list[Selection] | None:
    """Change what was chosen; None leaves it. Implementations are asked one after the other."""


@hookspec
def suggest_examples(card: AdapterCard, count: int) -> list[str] | None:
    """Write `count` queries that the card's adapter should answer; None leaves it to others."""


@hookspec
def on_event(event: MemoryEvent) -> None:
    """Hear of an event before its handlers run."""


@hookspec
def on_route(query: str, selections: Sequence[Selection], context: RouteContext) -> None:
    """Hear of a routing decision, after adjustments."""


@hookspec
def on_adapter_loaded(adapter: str, load_ms: float) -> None:
    """Hear that an adapter (`name@version`) is on the device."""


@hookspec
def on_adapter_evicted(adapter: str, reason: str) -> None:
    """Hear that an adapter (`name@version`) left the device, and why."""


@hookspec
def on_generation(receipt: Receipt, tokens: int, generate_ms: float) -> None:
    """Hear that a generation ended: under which receipt, how many tokens, how long.

    The receipt's mixture is the one in force, also where it was not routed.
    """
