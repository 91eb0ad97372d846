"""The provider behind a router, with the adapter on its encoder."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from intrinsic.builtin.embedders import register_embedders
from intrinsic.card import AdapterCard
from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider, opening
from intrinsic.routing import EmbeddingRouter, RouterOptions, SentenceEncoder
from intrinsic.routing.router import Embedder, Vectors
from tests.bus.backends import both_backends
from tests.embedding.small import by_transformers, same

CARDS = [
    AdapterCard(name="cook", examples=("how long does bread bake", "a soup of lentils")),
    AdapterCard(name="law", examples=("which law governs a lease", "a clause on secrecy")),
]


@both_backends
async def test_the_router_asks_with_the_adapter(model: Path, lora: Path) -> None:
    texts = [text for card in CARDS for text in card.examples]
    async with EmbeddingProvider(EmbeddingOptions(model=model, lora_adapter_path=lora)) as provider:
        assert isinstance(provider, Embedder)
        assert same(await provider.embed(texts), by_transformers(model, texts, lora=lora))
        router = EmbeddingRouter(provider)
        best = (await router.rank("a clause on secrecy", candidates=CARDS))[0]
    assert best.adapter == "law"


@both_backends
async def test_base_vectors_route_as_the_routers_own_encoder_does() -> None:
    from intrinsic.routing import EncoderOptions

    plain = EncoderOptions(runtime="torch", cache_dir=None, middle_layer=0.0)
    own = SentenceEncoder(options=plain)
    query = "is this clause of the lease valid"
    async with EmbeddingProvider() as provider:
        ours = await EmbeddingRouter(provider).rank(query, candidates=CARDS)
        theirs = await EmbeddingRouter(own).rank(query, candidates=CARDS)
    assert [s.adapter for s in ours] == [s.adapter for s in theirs]
    np.testing.assert_allclose(
        [s.confidence for s in ours], [s.confidence for s in theirs], atol=1e-4
    )


@both_backends
async def test_an_adapter_that_fails_leaves_the_router_its_keywords(
    model: Path, lora: Path, tmp_path: Path
) -> None:
    from intrinsic.routing import HybridRouter

    folder = tmp_path / "lora"
    shutil.copytree(lora, folder)
    options = EmbeddingOptions(model=model, lora_adapter_path=folder)
    (folder / "adapter_model.safetensors").write_bytes(b"torn")
    router = HybridRouter(EmbeddingProvider(options), options=RouterOptions())
    ranked = await router.rank("which law governs a lease", candidates=CARDS)
    assert ranked[0].adapter == "law"


@both_backends
async def test_cards_are_embedded_again_where_the_adapters_files_changed(
    model: Path, lora: Path, several: Path, tmp_path: Path
) -> None:
    """As a router does that never saw the old files; and once, not at every query."""
    folder, query = tmp_path / "lora", "which law governs a lease"
    shutil.copytree(lora, folder)
    provider = EmbeddingProvider(EmbeddingOptions(model=model, lora_adapter_path=folder))
    async with provider:
        router = EmbeddingRouter(provider)
        before = await router.rank(query, candidates=CARDS)
        assert await router.rank(query, candidates=CARDS) == before
        shutil.rmtree(folder)
        shutil.copytree(several / "a0", folder)
        after = await router.rank(query, candidates=CARDS)
        asked: list[list[str]] = []
        plain = provider.embed_cards

        async def told(texts: Sequence[str]) -> Vectors:
            asked.append(list(texts))
            return await plain(texts)

        provider.embed_cards = told  # type: ignore[method-assign]
        assert await router.rank(query, candidates=CARDS) == after
        assert asked == []
    options = EmbeddingOptions(model=model, lora_adapter_path=several / "a0")
    async with EmbeddingProvider(options) as another:
        assert await EmbeddingRouter(another).rank(query, candidates=CARDS) == after
    assert after != before


@both_backends
async def test_a_router_does_not_wait_beyond_its_deadline_for_a_model_that_loads(
    model: Path, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intrinsic.routing import HybridRouter

    go, ended = threading.Event(), threading.Event()
    plain = opening.opened

    def held(*given: Any) -> Any:
        go.wait(10)
        ended.set()
        return plain(*given)

    monkeypatch.setattr("intrinsic.embedding.provider.opened", held)
    provider = EmbeddingProvider(EmbeddingOptions(model=model, lora_adapter_path=lora))
    options = RouterOptions(encoder_load_timeout_s=0.01, encoder_retry_s=0.0)
    router = HybridRouter(provider, options=options)
    for _ in range(2):
        ranked = await router.rank("which law governs a lease", candidates=CARDS)
        assert ranked[0].adapter == "law"
        assert not ended.is_set()  # the keywords answered, and the model is still being loaded
    go.set()
    await anyio.to_thread.run_sync(ended.wait, 10)
    async with provider:
        texts = ["a clause on secrecy"]
        assert same(await provider.embed(texts), by_transformers(model, texts, lora=lora))


def test_the_builtin_embedder_takes_model_and_options(model: Path, lora: Path) -> None:
    make = register_embedders()["lora"]
    assert make().name == "all-MiniLM-L6-v2"  # type: ignore[attr-defined]
    options = EmbeddingOptions(model=model, lora_adapter_path=lora)
    made = make("another", embedding=options)
    assert isinstance(made, EmbeddingProvider)
    assert (made.name, made.options.lora_adapter_path) == ("another", lora)
    with pytest.raises(TypeError):
        make(None, options)
