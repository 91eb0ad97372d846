"""Short texts, eight adapters that PEFT wrote, and the same encoder bare, under PEFT and ours."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from anyio.from_thread import BlockingPortal, start_blocking_portal
from peft import LoraConfig, PeftModel, get_peft_model
from sentence_transformers import SentenceTransformer

from intrinsic.bundled import adapters_path
from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider
from intrinsic.registry import AdapterRegistry
from intrinsic.routing.model_loading import bundled_model
from intrinsic.routing.router import Vectors

ADAPTERS = 8
RANK = 8
LAYERS = ("query", "key", "value", "dense")
"""Every matrix of the encoder's layers."""


def short_texts(count: int, seed: int) -> list[str]:
    """Different texts of 3 to 14 words, as frequent as in the bundled cards' examples."""
    registry = AdapterRegistry.from_folder(adapters_path())
    words = [w for e in registry.list_adapters() for text in e.card.examples for w in text.split()]
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choices(words, k=rng.randint(3, 14)))] = None
    return list(found)


def write_adapters(folder: Path, seed: int) -> list[Path]:
    """Eight adapters of random values, none of which is zero, saved by PEFT."""
    paths = [folder / f"a{number}" for number in range(ADAPTERS)]
    for number, path in enumerate(paths):
        torch.manual_seed(seed * ADAPTERS + number)
        config = LoraConfig(
            r=RANK,
            lora_alpha=2 * RANK,
            target_modules=list(LAYERS),
            exclude_modules=["pooler.dense"],
            init_lora_weights=False,
        )
        with _quietly():
            get_peft_model(_bare()[0].auto_model, config).save_pretrained(str(path))
    return paths


def _bare() -> Any:  # noqa: ANN401
    return SentenceTransformer(str(bundled_model()), device="cpu", local_files_only=True)


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what PEFT asks of transformers
        yield


@dataclass(frozen=True)
class Rivals:
    """The three ways to embed `texts`, of which text i goes with adapter i modulo eight."""

    texts: Sequence[str]
    bare: Any
    peft: Any
    provider: EmbeddingProvider
    portal: BlockingPortal

    def run_bare(self, batch_size: int = 32) -> Vectors:
        """The encoder without adapters, under sentence-transformers."""
        vectors: Vectors = self.bare.encode(self.texts, batch_size=batch_size)
        return vectors

    def run_peft(self) -> Vectors:
        """One adapter under PEFT, within sentence-transformers."""
        self._adapters.set_adapter("a0")
        vectors: Vectors = self.peft.encode(self.texts)
        return vectors

    def run_peft_mixed(self) -> Vectors:
        """Every text's own adapter under PEFT: adapter after adapter, each with its texts."""
        vectors = torch.empty(len(self.texts), self.provider.dimension).numpy()
        for number in range(ADAPTERS):
            self._adapters.set_adapter(f"a{number}")
            vectors[number::ADAPTERS] = self.peft.encode(self.texts[number::ADAPTERS])
        return vectors

    def run_ours(self, adapters: str | list[str]) -> Vectors:
        """Ours: one adapter for all, or one per text."""
        embed = partial(self.provider.embed_batch, self.texts, adapters=adapters)
        return self.portal.call(embed)

    @property
    def names(self) -> list[str]:
        """Every text's own adapter."""
        return [f"a{number % ADAPTERS}" for number in range(len(self.texts))]

    @property
    def _adapters(self) -> PeftModel:
        model: PeftModel = self.peft[0].model
        return model


@contextmanager
def rivals(texts: Sequence[str], paths: Sequence[Path]) -> Iterator[Rivals]:
    """Load all three; ours keeps no vectors, so that every round is computed."""
    under_peft = _bare()
    with _quietly():
        wrapped = PeftModel.from_pretrained(
            under_peft[0].auto_model, str(paths[0]), adapter_name=paths[0].name
        )
        for path in paths[1:]:
            wrapped.load_adapter(str(path), adapter_name=path.name)
    under_peft[0].model = wrapped
    under_peft.eval()
    registry = AdapterRegistry.from_folder(paths[0].parent)
    provider = EmbeddingProvider(EmbeddingOptions(cached_texts=0), registry=registry)
    with start_blocking_portal() as portal:
        portal.call(provider.initialize)
        try:
            yield Rivals(texts, _bare(), under_peft, provider, portal)
        finally:
            portal.call(provider.close)
