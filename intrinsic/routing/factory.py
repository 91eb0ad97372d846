"""The built-in routers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from intrinsic.errors import ConfigError
from intrinsic.routing.embedding import EmbeddingRouter
from intrinsic.routing.hybrid import HybridRouter
from intrinsic.routing.keyword import KeywordRouter
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


def make_router(
    name: str = DEFAULT_ROUTER,
    embedder: Embedder | None = None,
    options: RouterOptions | None = None,
) -> RankingRouter:
    """Build a built-in router by name; raise `ConfigError` for a name that is none."""
    if name not in ROUTERS:
        raise ConfigError(f"unknown router {name!r}; valid: {', '.join(ROUTERS)}")
    return ROUTERS[name](embedder, options)
