"""The built-in routers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from intrinsic.errors import ConfigError
from intrinsic.routing.cascade import CascadeRouter
from intrinsic.routing.embedding import EmbeddingRouter
from intrinsic.routing.hybrid import HybridRouter
from intrinsic.routing.judge import Scorer
from intrinsic.routing.keyword import KeywordRouter
from intrinsic.routing.llm import LLMRouter
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.router import Embedder, RankingRouter

DEFAULT_ROUTER = "hybrid"


def _keyword(embedder: Embedder | None, options: RouterOptions | None) -> RankingRouter:
    return KeywordRouter(options=options)


def _embedding(embedder: Embedder | None, options: RouterOptions | None) -> RankingRouter:
    if embedder is None:
        raise ConfigError(
            "router 'embedding' needs an encoder; pass one, or choose 'hybrid' or 'keyword'"
        )
    return EmbeddingRouter(embedder, options=options)


def _hybrid(embedder: Embedder | None, options: RouterOptions | None) -> RankingRouter:
    return HybridRouter(embedder, options=options)


ROUTERS: Mapping[str, Callable[[Embedder | None, RouterOptions | None], RankingRouter]]
ROUTERS = MappingProxyType({"hybrid": _hybrid, "embedding": _embedding, "keyword": _keyword})

ASKING_ROUTERS = ("llm", "cascade")
"""The routers that ask a language model: they need a `scorer`, or an endpoint in `llm`."""


def make_router(
    name: str = DEFAULT_ROUTER,
    embedder: Embedder | None = None,
    options: RouterOptions | None = None,
    *,
    scorer: Scorer | None = None,
    llm: LLMOptions | None = None,
) -> RankingRouter:
    """Build a built-in router by name.

    Raises `ConfigError` for a name that is none, and where what the router needs is missing.
    """
    if name in ROUTERS:
        return ROUTERS[name](embedder, options)
    if name not in ASKING_ROUTERS:
        raise ConfigError(
            f"unknown router {name!r}; valid: {', '.join((*ROUTERS, *ASKING_ROUTERS))}"
        )
    chosen = llm or LLMOptions()
    asked = chosen.endpoint or scorer
    if asked is None:
        raise ConfigError(
            f"router {name!r} needs a model that scores answers, such as a TransformersBackend; "
            "pass one as scorer, or name an endpoint: LLMOptions(endpoint=ChatEndpoint(...))"
        )
    hybrid = HybridRouter(embedder, options=options)
    judge = LLMRouter(
        asked,
        options=options,
        llm=chosen,
        shortlist=KeywordRouter(options=options) if embedder is None else hybrid,
    )
    if name == "llm":
        return judge
    return CascadeRouter(
        hybrid,
        judge,
        low=chosen.low,
        high=chosen.high,
        deadline_s=chosen.deadline_s,
        retry_s=chosen.retry_s,
    )
