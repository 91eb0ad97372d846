"""`intrinsic route TEXT`: registry and router, no language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from intrinsic.card import AdapterCard
from intrinsic.cli.output import print_json, print_table, write
from intrinsic.cli.session import cards_of, load_plugins, loading
from intrinsic.config import Settings
from intrinsic.errors import ConfigError
from intrinsic.routing.card_lines import one_line
from intrinsic.routing.explanation import ExplainedCandidate, explain
from intrinsic.routing.factory import ASKING_ROUTERS, make_router
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.router import RankingRouter
from intrinsic.selection import Selection
from intrinsic.wiring import PluginRouter, build_router

_EXAMPLE_CHARS = 60


@dataclass(frozen=True, slots=True)
class Routing:
    """A router and the cards that it chooses from."""

    router: PluginRouter
    cards: tuple[AdapterCard, ...]

    @property
    def ranking(self) -> RankingRouter:
        """The router without its plugins. Raises `ConfigError` where it cannot rank."""
        router = self.router.router
        if not isinstance(router, RankingRouter):
            raise ConfigError(
                f"router {type(router).__name__} cannot rank candidates, only choose; "
                "use another --router"
            )
        return router


async def open_routing(settings: Settings, options: RouterOptions | None) -> Routing:
    """Load adapters' cards and the router, under `options`, showing progress on a terminal.

    Raises `ConfigError` for options of a router that takes none, and for a router that asks a
    language model.
    """
    plugins = load_plugins(settings)
    cards = await cards_of(settings.project)
    name = str(settings.value("routing.router"))
    make = plugins.factory("register_routers", name, "router")
    if name in ASKING_ROUTERS and getattr(make, "func", None) is make_router:
        raise ConfigError(
            f"router {name!r} asks a language model, and none is loaded here; try it "
            f"with 'intrinsic ask --router {name}', or choose another --router"
        )
    ranked = build_router(make, settings.embedder(plugins), {"options": options}, name=name)
    router = PluginRouter(ranked, plugins, top_k=settings.value("routing.top_k"))
    with loading("loading", ("router",)) as done:
        await router.warm_up(cards)
        done()
    return Routing(router, cards)


async def run_route(text: str, settings: Settings, *, explained: bool, as_json: bool) -> None:
    """Print what is chosen for a text, and with `explained` why the others are not."""
    routing = await open_routing(settings, settings.router_options())
    candidates: Sequence[ExplainedCandidate] = ()
    chosen: Sequence[Selection]
    if explained:
        explanation = await explain(
            routing.ranking,
            text,
            candidates=routing.cards,
            top_k=settings.value("routing.top_k"),
            decided_by=routing.router,
        )
        chosen, candidates = explanation.selections, explanation.candidates
    else:
        chosen = await routing.router.route(text, candidates=routing.cards)
    if as_json:
        print_json(
            {
                "text": text,
                "selections": [asdict(selection) for selection in chosen],
                "candidates": [asdict(candidate) for candidate in candidates],
            }
        )
        return
    _print(chosen, candidates)


def _print(chosen: Sequence[Selection], candidates: Sequence[ExplainedCandidate]) -> None:
    for one in chosen:
        write(f"{one.adapter} x {one.weight:.2f} ({one.confidence:.0%}): {one.reason}")
    if not chosen:
        write("no adapter fits: base model")
    if candidates:
        print_table(
            "candidates",
            ("adapter", "confidence", "score", "meaning", "words", "nearest", "outcome"),
            [_row(one) for one in candidates],
        )


def _row(one: ExplainedCandidate) -> tuple[str, ...]:
    parts = one.parts
    score = meaning = words = nearest = ""
    if parts is not None:
        score = f"{parts.score:+.2f}"
        words = f"{parts.words:+.2f} (BM25 {parts.bm25:.1f})"
        if parts.meaning is not None:
            meaning = f"{parts.meaning:+.2f} (cosine {parts.similarity:.2f})"
            nearest = f"{one_line(parts.nearest or '', _EXAMPLE_CHARS)} ({parts.cosine:.2f})"
    outcome = f"{one.outcome}, weight {one.weight:.2f}" if one.weight else one.outcome
    return one.adapter, f"{one.confidence:.1%}", score, meaning, words, nearest, outcome
