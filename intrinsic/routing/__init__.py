"""Which adapters fit a query: routers over adapter cards, and the text encoder that they use."""

from intrinsic.routing.cascade import CascadeRouter
from intrinsic.routing.chat_endpoint import ChatEndpoint
from intrinsic.routing.embedding import EmbeddingRouter
from intrinsic.routing.encoder import EncoderOptions, SentenceEncoder
from intrinsic.routing.factory import DEFAULT_ROUTER, ROUTERS, make_router
from intrinsic.routing.hybrid import HybridRouter
from intrinsic.routing.judge import Candidate, Judge, Judgement, Scorer
from intrinsic.routing.keyword import KeywordRouter
from intrinsic.routing.llm import LLMRouter
from intrinsic.routing.llm_options import LLMOptions
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.router import Embedder, RankingRouter, Router, Vectors

__all__ = [
    "Candidate",
    "CascadeRouter",
    "ChatEndpoint",
    "DEFAULT_ROUTER",
    "Embedder",
    "EmbeddingRouter",
    "EncoderOptions",
    "HybridRouter",
    "Judge",
    "Judgement",
    "KeywordRouter",
    "LLMOptions",
    "LLMRouter",
    "ROUTERS",
    "RankingRouter",
    "Router",
    "RouterOptions",
    "Scorer",
    "SentenceEncoder",
    "Vectors",
    "make_router",
]
