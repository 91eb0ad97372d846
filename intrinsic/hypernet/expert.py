"""The instant expert: from a query to a generated adapter that the manager can lease.

query ─encoder─▶ embedding ─gate─▶ generate ─bound─▶ offered, registered ─example─▶ Selection
                    └────────────── refused, in words ──────────────────────┘
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from torch import nn

from intrinsic.backends import AnswerScore, Capability, Prompt
from intrinsic.card import AdapterCard
from intrinsic.errors import AdapterNotFoundError, CapabilityError, ConfigError, HypernetError
from intrinsic.hypernet.base_norms import base_norms
from intrinsic.hypernet.cache import GeneratedCache
from intrinsic.hypernet.check import Example, ExampleCheck, check_on_backend
from intrinsic.hypernet.encoders import Embeddings, TextEncoder
from intrinsic.hypernet.expert_options import ExpertOptions
from intrinsic.hypernet.gate import Gate, Verdict
from intrinsic.hypernet.generated import Generated, as_checkpoint
from intrinsic.hypernet.generator import WeightGenerator
from intrinsic.hypernet.least_share import share_of
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.lora import LoraCheckpoint
from intrinsic.manager import AdapterManager
from intrinsic.mixture import BASE, Mixture
from intrinsic.registry.entry import AdapterEntry
from intrinsic.selection import Selection
from intrinsic.worker import run_to_end

NAME = "hypernet"
"""The name of every generated adapter; its version says which one it is."""

_DIGITS = 12
_MOST_CHECKS = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a query gets no generated adapter; `score` is its similarity to what was trained on."""

    why: str
    score: float


class InstantExpert:
    """Generates adapters for a manager, and lets those go that were not used for longest.

    A generated adapter is known to the manager's registry as `hypernet@VERSION`, of a version that
    is made of its content; routing is never offered it. Whoever holds it keeps it. Equal queries
    are generated once. `encoder` and `gate` are those that the network was trained with. Raises
    `CapabilityError` for a backend that cannot take adapters made in memory, `ConfigError` where a
    stored adapter has their name, and `HypernetError` where the network is for another model.
    """

    def __init__(
        self,
        network: HyperNetwork,
        encoder: TextEncoder,
        gate: Gate,
        manager: AdapterManager,
        *,
        options: ExpertOptions | None = None,
    ) -> None:
        self.options = options or ExpertOptions()
        self.manager = manager
        self.encoder = encoder
        self.gate = gate
        model = live_model(manager)
        _check(manager, self.options)
        self.generator = WeightGenerator(network, base_norms(model, network.targets))
        bounds = gate.max_relative_norm, self.options.max_relative_norm
        share = self.options.margin_share
        self._share = share_of(gate) if share is None else share
        self._largest = min((bound for bound in bounds if bound is not None), default=math.inf)
        self.cache = GeneratedCache(self.options.max_cache_bytes)
        self._kept: OrderedDict[str, LoraCheckpoint] = OrderedDict()  # least recently used first
        self._checks: OrderedDict[tuple[str, str], ExampleCheck] = OrderedDict()
        self._generating = threading.Lock()
        self._placing = anyio.Lock()
        self._closed = False

    @property
    def adapters(self) -> tuple[str, ...]:
        """The generated adapters that can be leased, `hypernet@VERSION`, last used last."""
        return tuple(self._kept)

    async def warm_up(self) -> None:
        """Load the encoder, so that the first query does not wait for that."""
        await run_to_end(self._embed, "")

    async def judge(self, query: str) -> Verdict:
        """Whether the gate lets a query in; nothing is generated, nothing changes."""
        return await run_to_end(lambda: self.gate.admits(self._embed(query)))

    async def offer(self, query: str, example: Example | None = None) -> str | Refusal:
        """The adapter (`hypernet@VERSION`) for a query, as `select` finds it."""
        found = await self.select(query, example)
        return found if isinstance(found, Refusal) else found.adapter

    async def select(self, query: str, example: Example | None = None) -> Selection | Refusal:
        """Generate the adapter for a query, ready to be leased, or say why there is none.

        Its confidence is the similarity that the gate saw. With an `example`, its weights must
        lower the loss on it. Raises `EncoderError` and `HypernetError`, and `CapacityError` where
        host memory has no room; `HypernetError` too after `close`.
        """
        self._demand_open()
        if example is not None and not isinstance(example, Example):
            raise ConfigError(f"the example is {example!r:.80}; give an Example, or None")
        found = await run_to_end(self._generate, query)
        if isinstance(found, Refusal):
            return found
        generated, verdict = found
        key = f"{NAME}@{generated.key[:_DIGITS]}"
        known = self._checks.get((key, repr(example)))
        if known is None or known.passed:
            await self._place(key, generated)
            if example is not None and known is None:
                known = await self._try(key, example)
        if known is not None and not known.passed:
            async with self._placing:
                await self._drop(key)
            return Refusal(known.reason, verdict.score)
        confidence = min(max(verdict.score, 0.0), 1.0)
        return Selection(key, confidence, self.options.weight, f"generated: {verdict.reason}")

    async def close(self) -> None:
        """Let every generated adapter go, once the requests that hold it have ended.

        From the call on none is generated any more. One that was cancelled may be called again.
        """
        self._closed = True
        async with self._placing:
            pass  # what is being placed is among the adapters then
        for key in self.adapters:
            await self.manager.retire(key)
            self._forget(key)
        self.cache.clear()

    def _embed(self, query: str) -> Embeddings:
        embedding: Embeddings = self.encoder.encode([query])[0]
        return embedding

    def _generate(self, query: str) -> tuple[Generated, Verdict] | Refusal:
        embedding = self._embed(query)
        verdict = self.gate.admits(embedding)
        if not verdict.admitted:
            return Refusal(verdict.reason, verdict.score)
        with self._generating:  # who comes second finds it in the cache
            generated = self.cache.generate(self.generator, embedding)
        norm = generated.relative_norm * abs(self.options.weight)
        if not norm <= self._largest:
            why = f"it changes weights by {norm:.3g} of their size, above {self._largest:.3g}"
            return Refusal(why, verdict.score)
        return generated, verdict

    async def _place(self, key: str, generated: Generated) -> None:
        """Have an adapter in host memory and in the registry; others go where it is too many."""
        async with self._placing:
            self._demand_open()
            checkpoint = self._kept.get(key)
            if checkpoint is None:
                checkpoint = as_checkpoint(generated, base_model=self.manager.backend.name)
                # What queries share lies in memory once, however many there are.
                checkpoint = replace(checkpoint, bytes_used=generated.bytes_used)
            self.manager.backend.offer_lora_adapter(str(checkpoint.path), checkpoint)
            self._kept[key] = checkpoint
            self._kept.move_to_end(key)
            if not self.manager.registry.knows(key):
                self._register(key, checkpoint.path)
            await self._make_room(key)

    def _register(self, key: str, path: Path) -> None:
        card = AdapterCard(NAME, key.partition("@")[2], description="generated for one query")
        entry = AdapterEntry(card, path, self.manager.backend.name, made=True)
        self.manager.registry.put(entry, active=False)

    async def _make_room(self, newest: str) -> None:
        for key in self.adapters:
            if len(self._kept) <= self.options.max_cached:
                return
            if key != newest:
                await self._drop(key)

    async def _drop(self, key: str) -> None:
        """Let an adapter go, unless a request holds it."""
        if key not in self._kept:
            return
        try:
            gone = await self.manager.discard(key)
        except AdapterNotFoundError:  # others took it out of the registry
            gone = True
        if gone:
            self._forget(key)

    def _demand_open(self) -> None:
        if self._closed:
            raise HypernetError("the expert was closed and generates no more; open another one")

    def _forget(self, key: str) -> None:
        checkpoint = self._kept.pop(key, None)
        if checkpoint is not None:
            self.manager.backend.forget_lora_adapter(str(checkpoint.path))
        if self.manager.registry.knows(key):
            self.manager.registry.remove_adapter(key)

    async def _try(self, key: str, example: Example) -> ExampleCheck:
        """The loss on an example without and with the adapter, as two requests find it.

        It is remembered: neither the base nor what is generated changes.
        """
        mixture = Mixture.of({key: self.options.weight})
        scorer = _Leasing(self.manager)
        found = await check_on_backend(
            scorer, mixture, example, margin=self.options.margin, share=self._share
        )
        self._checks[key, repr(example)] = found
        while len(self._checks) > _MOST_CHECKS:
            self._checks.popitem(last=False)
        return found


class _Leasing:
    """Scores as requests do, each under a lease of its own."""

    def __init__(self, manager: AdapterManager) -> None:
        self._manager = manager

    async def score(
        self, prompt: Prompt, answers: Sequence[str], *, mixture: Mixture = BASE
    ) -> list[AnswerScore]:
        async with self._manager.lease(mixture) as lease:
            return await lease.score(prompt, answers)


def live_model(manager: AdapterManager) -> nn.Module:
    """The model behind a manager. Raises `CapabilityError` where it takes no adapters in memory."""
    backend = manager.backend
    model = getattr(backend, "model", None)
    can = all(backend.supports(needed) for needed in (Capability.LORA, Capability.OFFER))
    if not can or not isinstance(model, nn.Module):
        raise CapabilityError(
            f"backend {backend.name!r} cannot take adapters that are made in memory; "
            "use a TransformersBackend"
        )
    return model


def _check(manager: AdapterManager, options: ExpertOptions) -> None:
    backend = manager.backend
    taken = [entry for entry in manager.registry.versions(NAME) if not entry.made]
    if taken:
        raise ConfigError(
            f"{taken[0].path} is registered as {NAME!r}, the name of generated adapters; "
            "register it under another name"
        )
    if options.example_of is not None and not backend.supports(Capability.SCORE):
        raise ConfigError(
            f"backend {backend.name!r} cannot score, which the check on an example needs; "
            "leave out example_of"
        )
