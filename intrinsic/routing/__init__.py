"""Which adapters fit a query: routers over adapter cards, and the text encoder that they use."""

from intrinsic.routing.embedding import EmbeddingRouter
from intrinsic.routing.encoder import EncoderOptions, SentenceEncoder
from intrinsic.routing.factory import DEFAULT_ROUTER, ROUTERS, make_router
from intrinsic.routing.hybrid import HybridRouter
from intrinsic.routing.keyword import KeywordRouter
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.router import Embedder, RankingRouter, Router, Vectors

__all__ = [
    "DEFAULT_ROUTER",
    "Embedder",
    "EmbeddingRouter",
    "EncoderOptions",
    "HybridRouter",
    "KeywordRouter",
    "ROUTERS",
    "RankingRouter",
    "Router",
    "RouterOptions",
    "SentenceEncoder",
    "Vectors",
    "make_router",
]
