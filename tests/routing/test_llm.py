"""A language model is asked who fits: what the LLM router promises, with small scorers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from intrinsic import AdapterRegistry, adapters_path, base_path
from intrinsic.backends import AnswerScore, Capability, FunctionBackend, ModelBackend
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.bus import MemoryBus
from intrinsic.card import AdapterCard
from intrinsic.errors import BackendError, CapabilityError, ConfigError, RoutingError
from intrinsic.events import MemoryEvent
from intrinsic.receipt import Receipt
from intrinsic.routing import (
    Candidate,
    ChatEndpoint,
    Judgement,
    LLMOptions,
    LLMRouter,
    RankingRouter,
    RouterOptions,
    Scorer,
    make_router,
)
from intrinsic.routing.answer_forms import cards_form, names_form
from intrinsic.routing.likelihood import CONTENT_FREE
from intrinsic.routing.text import stems
from intrinsic.selection import RouteContext
from intrinsic.wiring import WiringOptions, setup_weight_interface
from tests.bus.backends import both_backends
from tests.manager.fakes import FakeBackend, registry_of
from tests.routing.fakes import CARDS, BagEmbedder

MEDICAL, LEGAL, CODING, *_ = CARDS
QUESTION = "is this disease cured by treatments, and what are its symptoms"


class WordScorer:
    """Likes an answer by the words that it shares with the question, and has its prejudices."""

    def __init__(self, **bias: float) -> None:
        self.bias = bias
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def score(self, prompt: str, answers: Sequence[str]) -> list[AnswerScore]:
        await anyio.lowlevel.checkpoint()
        self.asked.append((prompt, tuple(answers)))
        return [AnswerScore(self.like(prompt, answer), 1) for answer in answers]

    def like(self, prompt: str, answer: str) -> float:
        said = set(stems(prompt))
        liked = 6.0 * sum(term in said for term in set(stems(answer)))
        return liked - len(answer) + sum(v for word, v in self.bias.items() if word in answer)


def router(scorer: Scorer | None = None, **llm: object) -> LLMRouter:
    return LLMRouter(scorer or WordScorer(), llm=LLMOptions(**llm))  # type: ignore[arg-type]


@both_backends
async def test_the_card_that_the_model_finds_likely_is_chosen() -> None:
    made = router()
    assert isinstance(made, RankingRouter)
    (chosen,) = await made.route(QUESTION, candidates=CARDS)
    assert (chosen.adapter, chosen.weight) == ("medical", 1.0)
    assert chosen.reason.startswith("the model prefers it to none of them by +")
    ranked = await made.rank(QUESTION, candidates=CARDS)
    assert ranked[0].confidence == chosen.confidence > 0.9
    assert {one.adapter for one in ranked} == {card.name for card in CARDS}
    confidences = [one.confidence for one in ranked]
    assert confidences == sorted(confidences, reverse=True)
    assert 0.9 < sum(confidences) < 1.0
    assert {one.weight for one in ranked} == {0.0}


@both_backends
async def test_none_of_them_is_an_answer() -> None:
    assert await router().route("zzz qqq", candidates=CARDS) == []


@both_backends
async def test_what_the_model_says_anyway_counts_for_nothing() -> None:
    fair = await router(WordScorer()).rank(QUESTION, candidates=CARDS)
    prejudiced = WordScorer(Python=50.0, contracts=-50.0, none=30.0)
    calibrated = await router(prejudiced).rank(QUESTION, candidates=CARDS)
    assert [one.adapter for one in calibrated] == [one.adapter for one in fair]
    for one, other in zip(fair, calibrated, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-9)


@both_backends
async def test_a_higher_temperature_is_less_sure() -> None:
    sure = await router(temperature=1.0).rank(QUESTION, candidates=CARDS)
    unsure = await router(temperature=20.0).rank(QUESTION, candidates=CARDS)
    assert unsure[0].adapter == sure[0].adapter
    assert unsure[0].confidence < sure[0].confidence - 0.1


@both_backends
async def test_priors_are_asked_for_once_and_answers_kept() -> None:
    scorer = WordScorer()
    made = router(scorer)
    await made.route(QUESTION, candidates=CARDS)
    assert [prompt for prompt, _ in scorer.asked] == [*CONTENT_FREE, QUESTION]
    scorer.asked.clear()
    await made.route("a contract", candidates=CARDS)
    await made.rank("a contract", candidates=CARDS)
    assert [prompt for prompt, _ in scorer.asked] == ["a contract"]
    scorer.asked.clear()
    changed = AdapterCard("legal", description="Courts")
    await made.route("a contract", candidates=[MEDICAL, changed])
    *priors, last = scorer.asked
    assert [answers for _, answers in priors] == [("Courts",)] * len(CONTENT_FREE)
    assert len(last[1]) == 3


@both_backends
async def test_what_is_asked_ahead_is_not_asked_again() -> None:
    scorer = WordScorer()
    made = router(scorer)
    await made.warm_up(CARDS)
    scorer.asked.clear()
    await made.route(QUESTION, candidates=CARDS)
    assert len(scorer.asked) == 1
    await made.warm_up(())


@both_backends
async def test_a_model_that_cannot_be_asked_ahead_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await router(Faulty(RuntimeError("out of order"))).warm_up(CARDS)
    assert "out of order" in caplog.text


@both_backends
async def test_of_many_only_the_nearest_are_asked_about() -> None:
    many = [*(AdapterCard(f"n{n}", description=f"subject number{n}") for n in range(50)), *CARDS]
    scorer = WordScorer()
    ranked = await router(scorer, max_candidates=4).rank(QUESTION, candidates=many)
    assert ranked[0].adapter == "medical"
    assert len(scorer.asked[-1][1]) == 5
    assert len(ranked) == len(many)
    for one in ranked[4:]:
        assert one.confidence == 0.0
        assert one.reason == "is not among the 4 that the model was asked about"


@both_backends
async def test_a_shortlist_by_meaning_is_warmed_up_and_used() -> None:
    embedder = BagEmbedder()
    made = make_router("llm", embedder, scorer=WordScorer(), llm=LLMOptions(max_candidates=2))
    assert isinstance(made, LLMRouter)
    await made.warm_up(CARDS)
    assert MEDICAL.sentence in embedder.asked
    assert (await made.route(QUESTION, candidates=CARDS))[0].adapter == "medical"


@both_backends
async def test_what_cannot_be_read_or_does_not_exist_asks_nobody() -> None:
    scorer = WordScorer()
    made = router(scorer)
    for text in ("", " \n\t", "\x00\x07"):
        assert await made.route(text, candidates=CARDS) == []
        assert {one.confidence for one in await made.rank(text, candidates=CARDS)} == {0.0}
    assert await made.route(QUESTION, candidates=[]) == []
    assert await made.rank(QUESTION, candidates=[]) == []
    assert scorer.asked == []
    with pytest.raises(ConfigError, match="top_k is 0"):
        await made.route(QUESTION, candidates=CARDS, top_k=0)


@both_backends
async def test_who_is_excluded_is_no_rival() -> None:
    twin = AdapterCard("twin", description=MEDICAL.description, keywords=MEDICAL.keywords)
    scorer = WordScorer()
    cards = [MEDICAL, twin, LEGAL]
    (chosen,) = await router(scorer).route(
        QUESTION, candidates=cards, context=RouteContext(exclude=frozenset({"medical"}))
    )
    alone = await router().route(QUESTION, candidates=[twin, LEGAL])
    assert [chosen] == alone
    assert chosen.adapter == "twin"


@both_backends
async def test_cards_have_their_rules() -> None:
    never = AdapterCard("medical", description=MEDICAL.description, never=("disease",))
    must = AdapterCard("legal", description=LEGAL.description, must=("cured by",))
    scorer = WordScorer()
    (chosen,) = await router(scorer).route(QUESTION, candidates=[never, must])
    assert (chosen.adapter, chosen.confidence) == ("legal", 1.0)
    assert all(MEDICAL.description not in answers for _, answers in scorer.asked)
    strict = AdapterCard("medical", description=MEDICAL.description, threshold=1.0)
    assert await router().route(QUESTION, candidates=[strict, LEGAL]) == []
    grouped = [AdapterCard(n, description=MEDICAL.description, group="g") for n in ("a", "b")]
    open_to_all = LLMRouter(WordScorer(), options=RouterOptions(threshold=0.1))
    assert len(await open_to_all.route(QUESTION, candidates=grouped, top_k=2)) == 1


@both_backends
async def test_cards_that_say_the_same_share_and_names_tell_versions_apart() -> None:
    cards = [AdapterCard("m", v, description=MEDICAL.description) for v in ("1", "2")]
    ranked = await router().rank(QUESTION, candidates=[*cards, cards[0]])
    assert [one.adapter for one in ranked] == ["m@1", "m@1", "m@2"]
    assert len({one.confidence for one in ranked}) == 1
    bare = await router().rank(QUESTION, candidates=[AdapterCard("bare"), MEDICAL])
    assert [one.adapter for one in bare] == ["medical", "bare"]


@dataclass
class Faulty:
    """Raises, or gives the values that it was made with."""

    fault: object

    async def score(self, prompt: str, answers: Sequence[str]) -> list[AnswerScore]:
        await anyio.lowlevel.checkpoint()
        if isinstance(self.fault, Exception):
            raise self.fault
        assert isinstance(self.fault, list)
        return [AnswerScore(value, 1) for value in self.fault]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (RuntimeError("out of memory"), "scoring the candidates failed: RuntimeError: out of mem"),
        (CapabilityError("no weights"), "the model cannot score answers: no weights"),
        (BackendError("odd"), "the model refused the prompt: odd"),
        ([0.0], "for 3 answers; it must give one finite log-likelihood each"),
        ([0.0, float("nan"), 0.0], "nan"),
        ([0.0, 0.0, float("-inf")], "-inf"),
    ],
)
@both_backends
async def test_a_model_that_fails_is_one_clear_error(fault: object, words: str) -> None:
    with pytest.raises(RoutingError, match=words):
        await router(Faulty(fault)).route("x", candidates=[MEDICAL, LEGAL])


class Narrow(WordScorer):
    """Reads a hundred characters."""

    async def score(self, prompt: str, answers: Sequence[str]) -> list[AnswerScore]:
        if len(prompt) > 100:
            raise BackendError("too long")
        return await super().score(prompt, answers)


@both_backends
async def test_a_prompt_that_is_too_long_is_shortened() -> None:
    scorer = Narrow()
    text = f"{QUESTION} {'and so on ' * 10_000}"
    (chosen,) = await router(scorer).route(text, candidates=CARDS)
    assert chosen.adapter == "medical"
    assert 50 < len(scorer.asked[-1][0]) <= 100


@both_backends
async def test_a_call_that_is_cancelled_leaves_what_it_had() -> None:
    class Stuck(WordScorer):
        stuck = True

        async def score(self, prompt: str, answers: Sequence[str]) -> list[AnswerScore]:
            if self.stuck and len(self.asked) == 2:
                await anyio.sleep_forever()
            return await super().score(prompt, answers)

    scorer = Stuck()
    made = router(scorer)
    with anyio.move_on_after(0.01) as scope:
        await made.route(QUESTION, candidates=CARDS)
    assert scope.cancelled_caught
    scorer.stuck = False
    assert await made.route(QUESTION, candidates=CARDS) != []
    assert len(scorer.asked) == len(CONTENT_FREE) + 1


@pytest.mark.parametrize(
    "answer", [Judgement((0.5,), ("x",)), Judgement((2.0, 0.0), ("x", "y")), Judgement((), ())]
)
@both_backends
async def test_a_judge_that_talks_nonsense_is_refused(answer: Judgement) -> None:
    class Odd:
        async def judge(self, query: str, candidates: Sequence[Candidate]) -> Judgement:
            return answer

    with pytest.raises(RoutingError, match="for 2 candidates; it must give a probability"):
        await LLMRouter(Odd()).route("x", candidates=[MEDICAL, LEGAL])


def test_a_list_of_cards_is_short_whatever_they_say() -> None:
    long = AdapterCard("long", description="very\nlong " * 900, examples=("e\n" * 900,) * 3)
    asked = [Candidate(card.name, card) for card in (*CARDS, long)]
    form = names_form(asked, 2, 1_000)
    text = form.prompt("why?\n" * 5_000)
    assert len(text) < 1_250
    assert text.count("\n") == len(asked) + 4
    assert "medical: medicine: Answers questions about diseases" in text
    assert "For example: " in names_form(asked[:2], 2, 1_000).prompt("x")
    assert "For example: " not in names_form(asked[:2], 0, 1_000).prompt("x")
    assert form.answers == (*(card.name for card in CARDS), "long", "none")
    assert all(len(answer) <= 400 for answer in cards_form(asked, 2, 1_000).answers)


def test_an_adapter_may_be_called_none() -> None:
    form = names_form([Candidate("none", AdapterCard("none"))], 2, 1_000)
    assert form.answers == ("none", "none of them")
    assert form.answer_of == (0,)


@both_backends
async def test_names_can_be_asked_for() -> None:
    class Instructed(WordScorer):
        def like(self, prompt: str, answer: str) -> float:
            question = prompt.partition("Question: ")[2]
            return 9.0 if ("disease" in question) == (answer == "medical") else 0.0

    (chosen,) = await router(Instructed(), ask="names").route(QUESTION, candidates=CARDS)
    assert chosen.adapter == "medical"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"ask": "nicely"}, "ask is 'nicely'; valid: cards, names"),
        ({"max_candidates": 0}, "max_candidates is 0; it must be an integer, at least 1"),
        ({"max_examples": -1}, "max_examples is -1"),
        ({"max_prompt_chars": 99}, "max_prompt_chars is 99; it must be an integer, at least 100"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be a finite number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"cached_priors": True}, "cached_priors is True"),
        ({"cached_answers": 0}, "cached_answers is 0"),
        ({"endpoint": "http://x"}, "endpoint is of type str; it must be a ChatEndpoint"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LLMOptions(**setting)  # type: ignore[arg-type]


def test_a_router_that_asks_needs_somebody_to_ask() -> None:
    for name in ("llm", "cascade"):
        with pytest.raises(ConfigError, match=f"router '{name}' needs a model that scores"):
            make_router(name)
        asked = LLMOptions(endpoint=ChatEndpoint("http://localhost:1", "m"))
        assert make_router(name, llm=asked).name == name  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="valid: hybrid, embedding, keyword, llm, cascade"):
        make_router("lmm")


@pytest.mark.parametrize("name", ["llm", "cascade"])
@both_backends
async def test_the_wiring_hands_over_its_model(name: str, tmp_path: Path) -> None:
    class Scoring(FakeBackend):
        prompts: Sequence[str] = ()

        async def score(
            self, prompt: object, answers: object, **others: object
        ) -> list[AnswerScore]:
            assert isinstance(prompt, str)
            assert isinstance(answers, Sequence)
            self.prompts = (*self.prompts, prompt)
            return [
                AnswerScore(9.0 if (prompt, one) == ("a", answers[0]) else 0.0, 1)
                for one in answers
            ]

    backend = Scoring()
    asking = WiringOptions(router=name, llm=LLMOptions(low=0.0, high=1.0))
    async with MemoryBus() as bus:
        setup_weight_interface(
            bus, backend, registry_of(tmp_path, "ab"), BagEmbedder(), options=asking
        )
        report = await bus.publish(MemoryEvent.from_text("a"))
    assert isinstance(report.value, Receipt)
    assert [one.adapter for one in report.value.selections] == ["a"]
    assert "a" in backend.prompts


def test_a_backend_that_cannot_score_needs_an_endpoint(tmp_path: Path) -> None:
    async def answer(prompt: object) -> str:
        return ""

    backend = FunctionBackend(answer)
    registry = registry_of(tmp_path, "a")
    with pytest.raises(ConfigError, match="router 'llm' needs a model that scores answers"):
        setup_weight_interface(MemoryBus(), backend, registry, options=WiringOptions(router="llm"))
    endpoint = LLMOptions(endpoint=ChatEndpoint("http://localhost:1", "m"))
    options = WiringOptions(router="llm", llm=endpoint)
    assert setup_weight_interface(MemoryBus(), backend, registry, options=options).router


def test_a_backend_is_a_scorer() -> None:
    backend: ModelBackend = FakeBackend()
    scorer: Scorer = backend
    assert isinstance(scorer, Scorer)


@pytest.fixture(scope="module")
def bundled() -> TransformersBackend:
    return TransformersBackend.from_pretrained(base_path(), device="cpu")


@pytest.fixture
def clean(bundled: TransformersBackend) -> Iterator[TransformersBackend]:
    yield bundled
    bundled.engine.close()


ASKED = {
    "coding": ["Write a function that sorts a list of strings.", "reverse a string in python"],
    "legal": ["Draft a termination clause for a license agreement.", "Is there a warranty?"],
    "medical": ["What are the symptoms of Marfan syndrome?", "How is this disease inherited?"],
}


@both_backends
async def test_the_bundled_model_knows_which_card_goes_with_a_question(
    clean: TransformersBackend,
) -> None:
    cards = [entry.card for entry in AdapterRegistry.from_folder(adapters_path()).list_adapters()]
    answers = []
    for _ in range(2):
        made = LLMRouter(clean)
        ranked = [
            (adapter, await made.rank(question, candidates=cards))
            for adapter, questions in ASKED.items()
            for question in questions
        ]
        assert sum(found[0].adapter == adapter for adapter, found in ranked) >= 5
        answers.append(ranked)
    assert answers[0] == answers[1]


@both_backends
async def test_asking_reads_the_base_and_leaves_adapters_alone(clean: TransformersBackend) -> None:
    assert clean.supports(Capability.SCORE)
    question = ASKED["medical"][0]
    async with MemoryBus() as bus:
        registry = AdapterRegistry.from_folder(adapters_path())
        manager, routed = setup_weight_interface(
            bus, clean, registry, options=WiringOptions(router="llm", top_k=1)
        )
        cards = [entry.card for entry in registry.list_adapters()]
        expected = await LLMRouter(clean).rank(question, candidates=cards)
        await manager.set_active({"creative": 1.0})
        assert await routed.rank(question, candidates=cards) == expected
        assert manager.get_active_adapters() == {"creative@1.0.0": 1.0}
        await manager.fuse({"creative": 1.0})
        assert clean.engine.merged is not None
        again = f"{question} "
        assert [one.adapter for one in await routed.rank(again + "And why?", candidates=cards)]
        report = await bus.publish(MemoryEvent.from_text(question))
        assert isinstance(report.value, Receipt)
        assert [one.adapter for one in report.value.selections] == ["medical"]
