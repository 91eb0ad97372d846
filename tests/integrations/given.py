"""A bus and a manager wired over a backend that records what it is asked, and can be held up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from intrinsic.backends import Generation, GenerationOptions, Piece, Prompt
from intrinsic.backends.options import GREEDY
from intrinsic.bus import MemoryBus
from intrinsic.integrations.answering import Wired
from intrinsic.mixture import BASE, Mixture
from intrinsic.plugins import PluginManager
from intrinsic.wiring import WiringOptions, setup_weight_interface
from tests.manager.fakes import FakeBackend, registry_of
from tests.wiring.test_wiring import ByLetter, LetterPlugin, NoEmbedder

WORDS = ("an ", "answer ", "in ", "pieces")
PROMPT_TOKENS = 7


class Recorder(FakeBackend):
    """Answers `WORDS`; with `held` every piece but the first waits until the reader has it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Prompt, Mixture, GenerationOptions]] = []
        self.held = False
        self.read = anyio.Event()
        self.ended: list[bool] = []

    async def generate(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> Generation:
        await super().generate(prompt, mixture=mixture)
        self.asked.append((prompt, mixture, options))
        return Generation("".join(WORDS), len(WORDS), PROMPT_TOKENS, "stop", 1.0)

    async def pieces(
        self, prompt: Prompt, *, mixture: Mixture = BASE, options: GenerationOptions = GREEDY
    ) -> AsyncGenerator[Piece | Generation, None]:
        whole = await self.generate(prompt, mixture=mixture, options=options)
        complete = False
        try:
            for number, word in enumerate(WORDS):
                if number and self.held:
                    await self.read.wait()
                yield Piece(word)
            complete = True
        finally:
            self.ended.append(complete)
        yield whole


class Given(Wired):
    """What is wired; its backend and its router tell what reached them."""

    backend: Recorder
    router: ByLetter

    @property
    def turns(self) -> list[tuple[str, str]]:
        """The turns of the latest prompt."""
        prompt: Any = self.backend.asked[-1][0]
        return [(turn["role"], turn["content"]) for turn in prompt]

    @property
    def options(self) -> GenerationOptions:
        """How the latest prompt was decoded."""
        return self.backend.asked[-1][2]


@asynccontextmanager
async def given(folder: Path) -> AsyncIterator[Given]:
    """Adapters a, b and c; routed are those whose name is a word of the query."""
    letters, backend, plugins = LetterPlugin(), Recorder(), PluginManager.with_builtins()
    plugins.register(letters)
    async with MemoryBus(plugins=plugins) as bus:
        manager, _ = setup_weight_interface(
            bus,
            backend,
            registry_of(folder, "abc", max_loaded=3),
            NoEmbedder(),
            options=WiringOptions(router="letter"),
        )
        found = Given(bus, manager)
        found.backend, found.router = backend, letters.router
        yield found
