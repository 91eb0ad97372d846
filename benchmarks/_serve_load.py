"""What the clients of the service's benchmark ask for, and what they must get."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._serve_process import Direct
from benchmarks._serve_wire import Answer, Wire, WireError

MIXTURES: tuple[dict[str, float], ...] = (
    {"medical": 1.0},
    {"legal": 1.0},
    {"coding": 1.0},
    {"creative": 1.0},
    {"medical": 0.7, "legal": 0.3},
    {"coding": 0.5, "creative": 0.5},
    {"legal": 1.2, "creative": -0.2},
    {"medical": 0.4, "coding": 0.4, "creative": 0.4},
)
MISSING = "no-such-adapter"
ACTIVE: tuple[dict[str, float], ...] = ({}, {"medical": 1.0}, {"legal": 0.5})
"""What the adapters' routes make active meanwhile, in turn."""
_TOPICS = (
    "What are the symptoms of {}?",
    "Draft a clause on {}.",
    "Write a function that counts {}.",
    "Tell a tale of {}.",
)
_THINGS = ("anemia", "payment", "vowels", "a miller", "fever", "notice", "primes", "a fox")


@dataclass(frozen=True)
class Request:
    """A question under a mixture; None routes it."""

    question: str
    mixture: tuple[tuple[str, float], ...] | None
    max_tokens: int

    @property
    def body(self) -> dict[str, Any]:
        """As a client of OpenAI's protocol writes it."""
        model = "auto" if self.mixture is None else "+".join(f"{a}:{w}" for a, w in self.mixture)
        return {
            "model": model,
            "messages": [{"role": "user", "content": self.question}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream_options": {"include_usage": True},
        }

    @property
    def asked(self) -> dict[str, Any]:
        """As the process without the service takes it."""
        mixture = None if self.mixture is None else dict(self.mixture)
        return {"question": self.question, "mixture": mixture, "max_tokens": self.max_tokens}


def requests(count: int, max_tokens: int) -> list[Request]:
    """Questions, no two neighbours under one mixture."""
    questions = [topic.format(thing) for thing, topic in itertools.product(_THINGS, _TOPICS)]
    return [
        Request(
            questions[number % len(questions)],
            tuple(MIXTURES[number % len(MIXTURES)].items()),
            max_tokens,
        )
        for number in range(count)
    ]


class References:
    """What the model answers without the service, alone."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct
        self._known: dict[str, str] = {}

    def of(self, request: Request, *, active: bool = False) -> set[str]:
        """What is right: one text, or one for each mixture that may be active meanwhile."""
        mixtures = ACTIVE if active else (request.asked["mixture"],)
        return {self._text({**request.asked, "mixture": mixture}) for mixture in mixtures}

    def _text(self, asked: dict[str, Any]) -> str:
        key = json.dumps(asked)
        if key not in self._known:
            self._known[key] = self._direct.ask(asked)["text"]
        return self._known[key]


@dataclass
class Outcome:
    """What went wrong, if anything; `seconds` for all."""

    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    completed: int = 0
    left: int = 0
    refused: int = 0
    switches: int = 0


async def one_by_one(port: int, key: str, asked: Sequence[Request]) -> list[Answer]:
    """Each request once the one before it is answered, on one connection."""
    wire = Wire(port, key)
    answers = [await wire.chat(request.body) for request in asked]
    await wire.close()
    return answers


async def together(port: int, key: str, asked: Sequence[Request], *, clients: int) -> list[Answer]:
    """So many clients at once; each asks for what comes next when it has its answer."""
    answers: dict[int, Answer] = {}
    numbers = iter(range(len(asked)))

    async def ask() -> None:
        wire = Wire(port, key)
        for number in numbers:
            answers[number] = await wire.chat(asked[number].body)
        await wire.close()

    await asyncio.gather(*(ask() for _ in range(clients)))
    return [answers[number] for number in range(len(asked))]


async def churn(
    port: int, key: str, asked: Sequence[Request], references: References, *, clients: int
) -> Outcome:
    """Clients that leave, adapters that are missing, and adapters that come and go meanwhile."""
    outcome = Outcome()
    numbers = iter(range(len(asked)))
    adapters = Path(__file__).parents[1] / "adapters"
    served = await _served_name(port, key)
    async with asyncio.TaskGroup() as tasks:
        done = asyncio.Event()
        tasks.create_task(_switch(Wire(port, key), adapters, outcome, done))
        started = time.perf_counter()
        workers = [
            tasks.create_task(_ask(Wire(port, key), served, asked, numbers, references, outcome))
            for _ in range(clients)
        ]
        await asyncio.wait(workers)
        outcome.seconds = time.perf_counter() - started
        done.set()
    return outcome


async def _served_name(port: int, key: str) -> str:
    """What clients call the model; a request that names it gets what is active."""
    wire = Wire(port, key)
    _, body = await wire.call("GET", "/v1/models")
    await wire.close()
    return next(str(one["id"]) for one in json.loads(body)["data"] if one["id"] == one["root"])


async def _ask(
    wire: Wire,
    served: str,
    asked: Sequence[Request],
    numbers: Any,  # noqa: ANN401
    references: References,
    outcome: Outcome,
) -> None:
    for number in numbers:
        request = asked[number]
        try:
            if number % 20 == 7:
                answer = await wire.chat({**request.body, "model": MISSING})
                outcome.refused += 1
                if answer.status != 404 or answer.body["error"]["type"] != "not_found":
                    outcome.errors.append(f"a missing adapter: {answer.status} {answer.body}")
            elif number % 10 == 3:
                leave_after = random.Random(number).randint(1, 6)
                answer = await wire.chat(request.body, leave_after=leave_after)
                outcome.left += 1
                await wire.close()
            else:
                active = number % 10 == 5
                body = {**request.body, "model": served} if active else request.body
                answer = await wire.chat(body)
                outcome.completed += 1
                outcome.tokens += answer.tokens
                if answer.status != 200:
                    outcome.errors.append(f"{request}: {answer.status} {answer.body}")
                elif answer.text not in references.of(request, active=active):
                    outcome.wrong.append(f"{request}, active={active}: {answer.text!r}")
        except (WireError, OSError, asyncio.IncompleteReadError) as error:
            outcome.errors.append(f"{request}: {type(error).__name__}: {error}")
            await wire.close()
    await wire.close()


async def _switch(wire: Wire, adapters: Path, outcome: Outcome, done: asyncio.Event) -> None:
    """Load and unload by TabbyAPI's and by vLLM's routes, in turn, until the others are done."""
    extra = {"lora_name": "extra", "lora_path": str(adapters / "medical")}
    for number in itertools.count():
        active = ACTIVE[number % len(ACTIVE)]
        loras = [{"name": name, "scaling": scaling} for name, scaling in active.items()]
        calls: list[tuple[str, dict[str, Any]]] = [
            ("/v1/lora/load", {"loras": loras, "skip_queue": bool(number % 2)})
            if loras
            else ("/v1/lora/unload", {}),
            ("/v1/load_lora_adapter", extra),
            ("/v1/unload_lora_adapter", {"lora_name": "extra"}),
        ]
        for path, body in calls:
            status, answer = await wire.call("POST", path, body)
            outcome.switches += 1
            if status != 200:
                outcome.errors.append(f"{path}: {status} {answer[:200]!r}")
        if done.is_set():
            break
        await asyncio.sleep(0.05)
    await wire.close()
