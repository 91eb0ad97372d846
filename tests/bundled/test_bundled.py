"""The bundled model and adapters through the whole path: routed, better, and gone afterwards."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from typer.testing import CliRunner

from intrinsic import (
    AdapterManager,
    AdapterRegistry,
    GenerationOptions,
    ManagerOptions,
    MemoryBus,
    MemoryEvent,
    Receipt,
    SentenceEncoder,
    TransformersBackend,
    adapters_path,
    base_path,
    setup_weight_interface,
)
from intrinsic.cli.app import app
from tests.bus.backends import both_backends

SHORT = GenerationOptions(max_new_tokens=16)
OWN_WORDS = {
    "medical": [
        "My grandfather has gout. What are the symptoms and how is it treated?",
        "What causes high cholesterol?",
        "Is hemophilia inherited?",
    ],
    "legal": [
        "Draft a confidentiality clause for a services agreement.",
        "Which law governs this license agreement?",
        "Quote a clause about termination for convenience.",
    ],
    "coding": [
        "Write a python function that reverses the words of a sentence.",
        "Write a function to check whether a number is prime.",
        "Implement a function that removes duplicates from a list.",
    ],
    "creative": [
        "Continue the fairy tale: once there was a king who had three daughters.",
        "Continue this scene in the manner of Shakespeare. HAMLET: What noise is that?",
        "Continue the fable of the fox who met a crow.",
    ],
}
OWN_ANSWERS = {
    "medical": [
        "The symptoms of gout include pain and swelling of a joint. It is treated with medicines.",
        "High cholesterol is caused by a diet high in fat, lack of exercise, and genetic factors.",
        "This condition is inherited in an X-linked recessive pattern.",
    ],
    "legal": [
        "Each party shall keep the Confidential Information of the other party in confidence and "
        "shall not disclose it to any third party.",
        "This Agreement shall be governed by the laws of the State of Delaware.",
        "Either party may terminate this Agreement at any time upon sixty days written notice.",
    ],
    "coding": [
        "def reverse_words(text):\n    return ' '.join(reversed(text.split()))",
        "def is_prime(n):\n    for i in range(2, n):\n        if n % i == 0:\n"
        "            return False\n    return True",
        "def remove_duplicates(items):\n    result = []\n    for item in items:\n"
        "        if item not in result:\n            result.append(item)\n    return result",
    ],
    "creative": [
        'One day the King called them to him and said, "Dear children, I must go on a long '
        'journey."',
        "HORATIO:\nMy lord, the king doth wake to-night.",
        '"What a fine bird you are," said the Fox, and the Crow dropped the cheese.',
    ],
}
NONE_FITS = [
    "Book me a table for two at eight tonight, please.",
    "What is the weather like in Oslo tomorrow?",
    "Turn on the lights in the living room.",
    "Play some jazz.",
]


@pytest.fixture(scope="module")
def bundled() -> TransformersBackend:
    return TransformersBackend.from_pretrained(base_path(), device="cpu")


@pytest.fixture(autouse=True)
def weights_stay_as_they_are(bundled: TransformersBackend) -> Iterator[None]:
    before = bundled.engine.fingerprint()
    yield
    bundled.engine.close()
    assert bundled.engine.fingerprint() == before


def manager_of(bundled: TransformersBackend, max_loaded: int = 3) -> AdapterManager:
    registry = AdapterRegistry.from_folder(adapters_path())
    return AdapterManager(bundled, registry, options=ManagerOptions(max_loaded=max_loaded))


@both_backends
async def test_routing_picks_the_right_domain_or_none(bundled: TransformersBackend) -> None:
    registry = AdapterRegistry.from_folder(adapters_path())
    async with MemoryBus() as bus:
        setup_weight_interface(bus, bundled, registry, SentenceEncoder())
        for domain, questions in {**OWN_WORDS, "": NONE_FITS}.items():
            for question in questions:
                report = await bus.publish(MemoryEvent.from_text(question))
                assert isinstance(report.value, Receipt)
                first = [s.adapter for s in report.value.selections[:1]]
                assert first == ([domain] if domain else []), question


@both_backends
async def test_the_medical_adapter_answers_medical_questions_better(
    bundled: TransformersBackend,
) -> None:
    text = (Path(__file__).parent / "medical_questions.json").read_text(encoding="utf-8")
    pairs = json.loads(text)
    draw = random.Random(0)
    manager = manager_of(bundled)
    right = {"base": 0, "medical": 0}
    gained = 0.0
    for question, answer in pairs:
        others = [other for _, other in pairs if other != answer]
        choices = [answer, *draw.sample(others, 3)]
        found = {}
        for name, mixture in (("base", {}), ("medical", {"medical": 1.0})):
            async with manager.lease(mixture) as lease:
                asked = await lease.score(question, choices)
                blank = await lease.score("", choices)
            gains = [a.log_likelihood - b.log_likelihood for a, b in zip(asked, blank, strict=True)]
            right[name] += gains.index(max(gains)) == 0
            found[name] = asked[0].per_token
        gained += found["medical"] - found["base"]
    assert right["medical"] > right["base"]
    assert gained / len(pairs) > 0.8


@both_backends
async def test_each_adapter_knows_its_own_domain_best(bundled: TransformersBackend) -> None:
    manager = manager_of(bundled)
    for domain, answers in OWN_ANSWERS.items():
        found: dict[str, float] = {}
        for name in ("", *OWN_ANSWERS):
            async with manager.lease({name: 1.0} if name else {}) as lease:
                scores = [
                    (await lease.score(question, [answer]))[0]
                    for question, answer in zip(OWN_WORDS[domain], answers, strict=True)
                ]
            found[name] = sum(score.log_likelihood for score in scores)
        assert max(found, key=lambda name: found[name]) == domain, found


@both_backends
async def test_one_more_than_max_loaded_evicts_the_least_recently_used(
    bundled: TransformersBackend,
) -> None:
    manager = manager_of(bundled, max_loaded=2)
    async with manager.lease("medical"):
        async with manager.lease("legal"):
            pass
        async with manager.lease("coding"):
            loaded = [adapter.id.split("@")[0] for adapter in bundled.engine.loaded]
            assert loaded == ["medical", "coding"]


@both_backends
async def test_sessions_side_by_side_write_exactly_what_each_writes_alone(
    bundled: TransformersBackend,
) -> None:
    manager = manager_of(bundled)
    asked = [{"medical": 1.0}, {"legal": 0.7, "medical": 0.3}, {}, {"coding": 1.0}]
    question = "What is a lung?"

    async def write(number: int, into: dict[int, str]) -> None:
        async with manager.lease(asked[number]) as lease:
            into[number] = (await lease.generate(question, SHORT)).text

    alone: dict[int, str] = {}
    for number in range(len(asked)):
        await write(number, alone)
    together: dict[int, str] = {}
    async with anyio.create_task_group() as tasks:
        for number in range(len(asked)):
            tasks.start_soon(write, number, together)
    assert together == alone
    assert len(set(alone.values())) == len(asked)


@both_backends
async def test_fused_and_side_car_write_the_same(bundled: TransformersBackend) -> None:
    manager = manager_of(bundled)
    mixture = {"medical": 0.6, "creative": 0.4}
    async with manager.lease(mixture) as lease:
        beside = await lease.generate("What is a lung?", SHORT)
    await manager.fuse(mixture)
    async with manager.lease(mixture) as lease:
        assert bundled.engine.merged == lease.mixture
        fused = await lease.generate("What is a lung?", SHORT)
    await manager.unfuse()
    assert fused.text == beside.text


def test_sizes_keep_their_bounds() -> None:
    assert (base_path() / "model.safetensors").stat().st_size <= 25e6
    weights = list(adapters_path().glob("*/adapter_model.safetensors"))
    assert len(weights) >= 4
    for path in weights:
        assert path.stat().st_size <= 2e6
        assert (path.parent / "README.md").is_file()
        assert (path.parent / "card.toml").is_file()


def test_the_demo_shows_the_main_job() -> None:
    result = CliRunner().invoke(app, ["demo", "--json"])
    assert result.exit_code == 0, result.output
    demo = json.loads(result.stdout)
    assert demo["weights_identical"]
    *fitting, none = demo["questions"]
    chosen = [max(q["mixture"], key=q["mixture"].get).split("@")[0] for q in fitting]
    assert chosen == ["medical", "legal", "coding", "creative"]
    for question in fitting:
        assert question["log_likelihood_adapted"] > question["log_likelihood_base"]
        assert question["answer_adapted"] != question["answer_base"]
        assert question["candidates"][0]["confidence"] > question["candidates"][1]["confidence"]
        assert question["switch_ms"] < 100
    assert none["mixture"] == {}
    assert none["answer_adapted"] == none["answer_base"]
    assert none["log_likelihood_adapted"] == none["log_likelihood_base"]


def test_the_demo_reads_as_plain_text_in_a_pipe() -> None:
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert sum(line.startswith("question ") for line in lines) == 5
    assert "none fits: the base model" in result.stdout
    assert "bit-identical to the start" in lines[-1]
    assert "\x1b" not in result.stdout
