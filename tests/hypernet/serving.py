"""An instant expert over the tiny Llama, beside stored adapters."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.hypernet.encoders import Embeddings, HashedWords
from intrinsic.hypernet.expert import InstantExpert
from intrinsic.hypernet.expert_options import ExpertOptions
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.targets import targets_of
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.mixture import BASE, Mixture
from intrinsic.registry import AdapterRegistry
from tests.hypernet.nets import shaken
from tests.tiny import llama, tokenizer, tokens, write_adapter

DIMENSION = 64
DESCRIPTIONS = ("reverse the word", "double the word", "shout the word", "sort the word")
KNOWN, STRANGE = "please reverse the word", "what is asthma"


class Words(HashedWords):
    """Hashed words that count, say when that many were asked, and fail where they are told to."""

    def __init__(self) -> None:
        super().__init__(DIMENSION)
        self.asked: list[str] = []
        self.when_asked = (0, threading.Event())

    def encode(self, texts: Sequence[str]) -> Embeddings:
        self.asked += texts
        count, event = self.when_asked
        if len(self.asked) >= count:
            event.set()
        if "unreadable" in texts[0]:
            raise RuntimeError("the encoder is told to fail")
        return super().encode(texts)


def network(size: float = 0.1) -> HyperNetwork:
    """A small network for the tiny Llama, which has learned something at random."""
    return shaken(HyperNetwork(targets_of(llama()), DIMENSION, 4, 8.0), size)


def gate(threshold: float = 0.4, **options: Any) -> Gate:
    """Lets in what shares words with the descriptions; -2 lets in everything."""
    return Gate(HashedWords(DIMENSION).encode(DESCRIPTIONS), threshold, **options)


def manager_of(folder: Path, names: str = "ab", **options: Any) -> AdapterManager:
    """A manager of stored adapters for the tiny Llama."""
    backend = TransformersBackend(llama(), tokenizer(), name="tiny/llama")
    registry = AdapterRegistry(max_loaded=options.pop("max_loaded", 3))
    for seed, name in enumerate(names):
        path = write_adapter(folder / name, backend.model, seed=seed)
        registry.register_adapter(path, name=name, domain=name * 2)
    return AdapterManager(backend, registry, options=ManagerOptions(**options))


def expert_of(
    manager: AdapterManager,
    *,
    threshold: float = 0.4,
    size: float = 0.1,
    bound: float | None = None,
    share: float | None = None,
    **options: Any,
) -> InstantExpert:
    """An expert that admits what the threshold lets in."""
    return InstantExpert(
        network(size),
        Words(),
        gate(threshold, max_relative_norm=bound, example_share=share),
        manager,
        options=ExpertOptions(**options),
    )


def logits(manager: AdapterManager, mixtures: Mixture | Sequence[Mixture]) -> torch.Tensor:
    """What the live model gives for two rows of tokens, under what is loaded already."""
    backend: Any = manager.backend
    with torch.no_grad(), backend.engine.activate(mixtures):
        return backend.model(tokens()).logits  # type: ignore[no-any-return]


def bare() -> torch.Tensor:
    """What a model gives that nothing was ever loaded on."""
    with torch.no_grad():
        return llama()(tokens()).logits  # type: ignore[no-any-return]


def exact(
    manager: AdapterManager, expert: InstantExpert, parts: Mapping[str, float]
) -> torch.Tensor:
    """The slow way, in fp64: `W + Σ w s B A`, of queries (generated anew) and stored adapters."""
    model = copy.deepcopy(llama()).double()
    backend: Any = manager.backend
    for what, weight in parts.items():
        if manager.registry.knows(what):
            path = manager.registry.get_adapter(what).path
            found = backend._host.read(path).factors
            changes = {name: f.scale * f.B.double() @ f.A.double() for name, f in found.items()}
        else:
            source = network_of(expert)
            pairs = source(torch.from_numpy(np.array(HashedWords(DIMENSION).encode([what])[0])))
            changes = {
                target.name: source.alpha / source.rank * (B.double() @ A.double())
                for target, (A, B) in zip(source.targets, pairs, strict=True)
            }
        for name, change in changes.items():
            model.get_submodule(name).weight.data += weight * change
    with torch.no_grad():
        return model(tokens()).logits  # type: ignore[no-any-return]


def network_of(expert: InstantExpert) -> HyperNetwork:
    """The network that the expert was made with."""
    return expert.generator.network


def traces(manager: AdapterManager) -> dict[str, object]:
    """Everything in which a generated adapter could be left behind."""
    backend: Any = manager.backend
    with torch.no_grad(), backend.engine.activate(BASE):
        found = backend.model(tokens()).logits
    return {
        "device": [loaded.id for loaded in backend.engine.loaded if "hypernet" in loaded.id],
        "registry": [entry.key for entry in manager.registry.versions("hypernet")],
        "host": [path for path in backend.host_memory().bytes_by_path if "hypernet" in path],
        "marked": [key for key in manager.registry.loaded_adapters if "hypernet" in key],
        "base": torch.equal(found, bare()),
        "weights": backend.engine.fingerprint()
        == TransformersBackend(llama(), tokenizer()).engine.fingerprint(),
    }


NOTHING: dict[str, object] = {
    "device": [],
    "registry": [],
    "host": [],
    "marked": [],
    "base": True,
    "weights": True,
}
