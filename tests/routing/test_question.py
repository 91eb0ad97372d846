"""What is asked: a query, or its memories by relevance and strength, whatever their length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic.errors import ConfigError
from intrinsic.events import InjectionChannel, MemoryEvent, MemoryVector
from intrinsic.routing import EmbeddingRouter, HybridRouter, KeywordRouter, RouterOptions
from intrinsic.routing.question import MOST_PARTS, Question
from intrinsic.selection import RouteContext
from tests.bus.backends import both_backends
from tests.routing.fakes import CARDS, BagEmbedder

OPTIONS = RouterOptions()
MEDICAL = "how is asthma treated, and what are the symptoms"
COOKING = "which ingredients do I need for pancakes"


def memory(
    text: str,
    relevance: float = 1.0,
    strength: float = 1.0,
    channel: InjectionChannel | None = None,
) -> MemoryVector:
    return MemoryVector(
        text[:8], text, relevance_score=relevance, injection_strength=strength, channel=channel
    )


def joined(*memories: MemoryVector) -> str:
    return MemoryEvent(InjectionChannel.DYNAMIC_LORA, memories).text


def asked(*memories: MemoryVector, options: RouterOptions = OPTIONS) -> dict[str, float]:
    return dict(Question.about(joined(*memories), memories, options).parts)


def test_a_query_is_its_own_only_part() -> None:
    question = Question.about(" a\x00 b ", (), OPTIONS)
    assert question == Question("a  b", (("a  b", 1.0),)) == Question.of("a\x00 b")
    assert len({question, Question.of("a  b")}) == 1
    assert Question.of(" \x00").parts == ()


def test_one_memory_is_the_query() -> None:
    event = MemoryEvent.from_text("line one\nline two")
    assert Question.about(event.text, event.vectors, OPTIONS) == Question.of("line one line two")
    silent = memory("said without relevance", relevance=0.0)
    assert asked(silent) == {"said without relevance": 1.0}


def test_memories_count_by_relevance_times_strength_not_by_length() -> None:
    found = asked(memory("long " * 50, 0.5, 0.5), memory("short", 0.75, 1.0))
    assert found == {("long " * 50).strip(): pytest.approx(0.25), "short": pytest.approx(0.75)}
    question = Question.about(
        "short\nlong", (memory("long", 0.5, 0.5), memory("short", 0.75)), OPTIONS
    )
    assert question.text == "short\nlong"


def test_what_weighs_nothing_is_left_out_and_where_all_do_all_count_the_same() -> None:
    assert asked(memory("a", 0.0), memory("b", 0.3), memory("c", -1.0)) == {"b": 1.0}
    assert asked(memory("a", 0.0), memory("b", 1.0, 0.0)) == {"a": 0.5, "b": 0.5}
    assert asked(memory("a"), memory(" \x00")) == {"a": 1.0}
    assert asked(memory("a", 1.0), memory("b", 1.0), memory("a", 2.0)) == {
        "a": pytest.approx(0.75),
        "b": pytest.approx(0.25),
    }


def test_a_kind_of_memory_has_its_weight() -> None:
    stuffed = InjectionChannel.CONTEXT_STUFFING
    options = RouterOptions(memory_weights={stuffed: 0.5, InjectionChannel.KV_CACHE_INJECTION: 0.0})
    three = (
        memory("plain"),
        memory("stuffed", channel=stuffed),
        memory("cached", 9.0, channel=InjectionChannel.KV_CACHE_INJECTION),
    )
    assert asked(*three, options=options) == {
        "plain": pytest.approx(2 / 3),
        "stuffed": pytest.approx(1 / 3),
    }
    assert asked(three[2], options=options) == {}
    assert asked(memory("a", 0.0), memory("b", 0.0, channel=stuffed), options=options) == {
        "a": pytest.approx(2 / 3),
        "b": pytest.approx(1 / 3),
    }


def test_a_query_of_its_own_stands_beside_the_memories() -> None:
    memories = (memory("a", 3.0), memory("b", 1.0))
    question = Question.about("what then?", memories, OPTIONS)
    assert dict(question.parts) == {
        "what then?": 0.5,
        "a": pytest.approx(0.375),
        "b": pytest.approx(0.125),
    }
    alone = Question.about("what then?", memories, RouterOptions(memory_share=0.0))
    assert alone == Question.of("what then?")
    assert dict(Question.about("", memories, OPTIONS).parts) == {
        "a": pytest.approx(0.75),
        "b": pytest.approx(0.25),
    }


def test_of_very_many_memories_the_heaviest_are_asked_about() -> None:
    many = [memory(f"text {n}", 1.0 + n) for n in range(10 * MOST_PARTS)]
    found = asked(*many)
    assert len(found) == MOST_PARTS
    assert "text 319" in found
    assert "text 0" not in found
    assert sum(found.values()) == pytest.approx(1.0)


@given(
    st.lists(
        st.tuples(st.text(max_size=5), *[st.floats(allow_nan=False, allow_infinity=False)] * 2),
        max_size=6,
    )
)
def test_weights_are_positive_and_sum_to_one(said: list[tuple[str, float, float]]) -> None:
    memories = tuple(memory(*each) for each in said)
    for query in (joined(*memories), "another"):
        question = Question.about(query, memories, OPTIONS)
        assert hash(question) == hash(Question(question.text, question.parts))
        weights = [weight for _, weight in question.parts]
        assert all(weight > 0.0 for weight in weights)
        assert not weights or sum(weights) == pytest.approx(1.0)
        assert bool(question.text) == bool(weights)


@both_backends
async def test_the_heavier_memory_decides_however_short_it_is() -> None:
    long = memory(COOKING + ", and how long do they bake in the oven? " * 3, 0.1)
    short = memory(MEDICAL, 0.9)
    options = RouterOptions(threshold=0.0)
    embedder = BagEmbedder()
    for router in (
        EmbeddingRouter(embedder, options=options),
        HybridRouter(embedder, options=options),
    ):
        for memories, expected in (
            ((long, short), "medical"),
            ((memory(long.source_text, 0.9), memory(MEDICAL, 0.1)), "cooking"),
        ):
            context = RouteContext(memories=memories)
            text = joined(*memories)
            (chosen,) = await router.route(text, candidates=CARDS, context=context)
            assert chosen.adapter == expected
            ranked = await router.rank(text, candidates=CARDS, context=context)
            assert ranked[0] == type(chosen)(expected, chosen.confidence, 0.0, chosen.reason)
    assert text not in embedder.asked


@both_backends
async def test_the_parts_are_embedded_by_one_call_and_words_are_those_of_all() -> None:
    calls: list[int] = []

    class Counting(BagEmbedder):
        async def embed(self, texts):  # type: ignore[no-untyped-def]
            calls.append(len(texts))
            return await super().embed(texts)

    router = EmbeddingRouter(Counting())
    await router.warm_up(CARDS)
    calls.clear()
    memories = (memory(MEDICAL), memory(COOKING))
    context = RouteContext(memories=memories)
    await router.route(joined(*memories), candidates=CARDS, context=context)
    assert calls == [2]
    ranked = await KeywordRouter().rank(joined(*memories), candidates=CARDS, context=context)
    by_name = {one.adapter: one.reason for one in ranked}
    assert "asthma" in by_name["medical"]
    assert "pancakes" in by_name["cooking"]


@both_backends
async def test_memories_that_cancel_out_are_near_to_nothing() -> None:
    class Opposite(BagEmbedder):
        async def embed(self, texts):  # type: ignore[no-untyped-def]
            vectors = await super().embed(texts)
            return [-abs(v) if t == "minus" else v for t, v in zip(texts, vectors, strict=True)]

        def _vector(self, text):  # type: ignore[no-untyped-def]
            return super()._vector("same" if text in ("plus", "minus") else text)

    memories = (memory("plus"), memory("minus"))
    context = RouteContext(memories=memories)
    router = EmbeddingRouter(Opposite())
    assert await router.route(joined(*memories), candidates=CARDS, context=context) == []


def test_weights_of_memories_are_checked() -> None:
    with pytest.raises(ConfigError, match="memory_weights names 'diary'; known channels: logit"):
        RouterOptions(memory_weights={"diary": 1.0})
    with pytest.raises(ConfigError, match="memory_weights of 'knn_lm' is -1; it must be a finite"):
        RouterOptions(memory_weights={"knn_lm": -1})
    assert hash(RouterOptions(memory_weights={"knn_lm": 1.0})) is not None
