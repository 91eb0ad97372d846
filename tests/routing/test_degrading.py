"""An encoder that is missing, raises, lies or hangs costs quality, never an answer."""

from __future__ import annotations

import logging
import threading

import anyio
import numpy as np
import pytest

from intrinsic.errors import EncoderError
from intrinsic.routing import EmbeddingRouter, HybridRouter, KeywordRouter, RouterOptions
from intrinsic.routing.card_vectors import texts_of
from intrinsic.routing.guard import EncoderGuard
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder, Clock, FaultyEmbedder

QUERY = "how is asthma treated, and what are the symptoms"
TEXTS = len({text for card in CARDS for text in texts_of(card)})
FAULTS = [
    pytest.param(RuntimeError("out of memory"), "raised RuntimeError: out of memory", id="raises"),
    pytest.param(TimeoutError("slow"), "raised TimeoutError: slow", id="own timeout"),
    pytest.param(EncoderError("no model"), "no model", id="encoder error"),
    pytest.param(np.full((TEXTS, 8), np.nan, np.float32), "not finite", id="nan"),
    pytest.param(np.full((TEXTS, 8), np.inf, np.float32), "not finite", id="inf"),
    pytest.param(np.zeros((3, 8), np.float32), rf"shape \(3, 8\) for {TEXTS} texts", id="rows"),
    pytest.param(np.zeros((TEXTS, 0), np.float32), "shape", id="no numbers"),
    pytest.param(np.zeros(8, np.float32), "shape", id="one vector"),
    pytest.param(np.array([["a"] * 8] * TEXTS), "raised ValueError", id="words"),
]


@pytest.mark.parametrize(("fault", "why"), FAULTS)
@both_backends
async def test_hybrid_goes_on_by_words_and_says_so(
    fault: object, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    router = HybridRouter(FaultyEmbedder(fault))
    (chosen,) = await router.route(QUERY, candidates=CARDS)
    (by_words,) = await KeywordRouter().route(QUERY, candidates=CARDS)
    assert chosen.adapter == by_words.adapter == "medical"
    assert chosen.confidence == by_words.confidence
    assert "by words alone: the encoder failed" in chosen.reason
    assert router.degraded
    await router.route(QUERY, candidates=CARDS)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    with pytest.raises(EncoderError, match=why):
        await EmbeddingRouter(FaultyEmbedder(fault)).route(QUERY, candidates=CARDS)


@both_backends
async def test_hybrid_without_an_encoder_is_the_keyword_router(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = HybridRouter(None)
    await router.warm_up(CARDS)
    (chosen,) = await router.route(QUERY, candidates=CARDS)
    assert chosen.reason.endswith("(by words alone: there is no encoder)")
    assert "routing by words alone: there is no encoder" in caplog.text


@both_backends
async def test_an_encoder_that_recovers_is_used_again() -> None:
    embedder = FaultyEmbedder(RuntimeError("once"))
    router = HybridRouter(embedder)
    assert "cosine" not in (await router.rank(QUERY, candidates=CARDS))[0].reason
    embedder.fault = ""
    assert "cosine" in (await router.rank(QUERY, candidates=CARDS))[0].reason
    assert router.degraded == ""


@both_backends
async def test_a_hanging_encoder_is_given_its_time_once_and_then_left_alone() -> None:
    embedder = FaultyEmbedder("hang")
    options = RouterOptions(
        encoder_timeout_s=1e-3, encoder_load_timeout_s=1e-3, encoder_retry_s=1e6
    )
    router = HybridRouter(embedder, options=options)
    (chosen,) = await router.route(QUERY, candidates=CARDS)
    assert "did not answer within 0.001 s" in chosen.reason
    for _ in range(20):
        (chosen,) = await router.route(QUERY, candidates=CARDS)
        assert "left alone" in chosen.reason
    assert embedder.calls == 1
    embedder.fault = ""
    await router.warm_up(CARDS)
    assert "cosine" in (await router.route(QUERY, candidates=CARDS))[0].reason


@both_backends
async def test_after_the_pause_the_encoder_is_asked_again() -> None:
    clock = Clock()
    embedder = FaultyEmbedder("hang")
    options = RouterOptions(encoder_load_timeout_s=1e-3, encoder_retry_s=30.0)
    guard = EncoderGuard(embedder, options, clock=clock)

    async def ask() -> None:
        await guard.bounded(lambda: guard.embed_query("text"))

    for now_s, calls in ((0.0, 1), (29.0, 1), (31.0, 2), (32.0, 2)):
        clock.now_s = now_s
        with pytest.raises(EncoderError):
            await ask()
        assert embedder.calls == calls
    embedder.fault, clock.now_s = "", 90.0
    await ask()


@both_backends
async def test_a_deadline_of_the_caller_is_not_swallowed() -> None:
    router = HybridRouter(FaultyEmbedder("hang"))
    with anyio.move_on_after(1e-3) as scope:
        await router.route(QUERY, candidates=CARDS)
    assert scope.cancelled_caught


@both_backends
async def test_an_encoder_whose_vectors_change_length_has_failed() -> None:
    embedder = FaultyEmbedder("")
    router = HybridRouter(embedder)
    await router.route(QUERY, candidates=CARDS)
    embedder.fault = np.ones((1, 8), np.float32)
    (chosen,) = await router.route(QUERY, candidates=CARDS)
    assert "vectors of 8 numbers after vectors of 4096" in chosen.reason


@both_backends
async def test_warming_up_embeds_the_cards_and_only_hybrid_forgives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    embedder = BagEmbedder()
    router = HybridRouter(embedder)
    await router.warm_up()
    await router.warm_up(CARDS)
    embedder.asked.clear()
    await router.route(QUERY, candidates=CARDS)
    assert embedder.asked == [QUERY]
    await KeywordRouter().warm_up(CARDS)
    await EmbeddingRouter(BagEmbedder()).warm_up(CARDS)
    with pytest.raises(EncoderError, match="RuntimeError: gone"):
        await EmbeddingRouter(FaultyEmbedder(RuntimeError("gone"))).warm_up(CARDS)
    await HybridRouter(FaultyEmbedder(RuntimeError("gone"))).warm_up(CARDS)
    assert "the encoder failed: it raised RuntimeError: gone" in caplog.text


@both_backends
async def test_a_slow_encoder_for_one_request_holds_up_no_other() -> None:
    started, go_on = anyio.Event(), anyio.Event()

    class Slow(BagEmbedder):
        async def embed(self, texts):  # type: ignore[no-untyped-def]
            if "slow" in texts:
                started.set()
                await go_on.wait()
            return await super().embed(texts)

    router = HybridRouter(Slow())
    async with anyio.create_task_group() as group:

        async def slow() -> None:
            await router.route("slow", candidates=CARDS)

        group.start_soon(slow)
        await started.wait()
        assert await router.route(QUERY, candidates=CARDS)
        go_on.set()


def test_the_routers_need_no_torch_until_something_is_embedded() -> None:
    import subprocess
    import sys

    code = (
        "import sys, anyio, intrinsic.routing as r\n"
        "from intrinsic.card import AdapterCard\n"
        "router, encoder = r.make_router('keyword'), r.SentenceEncoder()\n"
        "assert encoder.dimension == 384\n"
        "async def main(): await router.route('a b', candidates=[AdapterCard('a')])\n"
        "anyio.run(main)\n"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert threading.active_count() < 50
