"""Loading: once, in words, and what serves where an adapter or a package is missing."""

from __future__ import annotations

import builtins
import importlib
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider, opening
from intrinsic.errors import CheckpointError, EncoderError, IncompatibleAdapterError
from intrinsic.registry import AdapterRegistry
from intrinsic.routing.onnx_model import onnx_installed
from tests.bus.backends import both_backends
from tests.embedding import small
from tests.embedding.small import by_transformers, same
from tests.tiny import tokenizer

WORDS = ["a cat", "the dog that barks"]

needs_onnx = pytest.mark.skipif(not onnx_installed(), reason="the extra onnx is not installed")


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make as if a package was not installed."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every load of a model, by name."""
    seen: list[str] = []
    plain = opening.opened

    def counted(options: EmbeddingOptions, asking: Any, name: str) -> Any:
        seen.append(name)
        return plain(options, asking, name)

    monkeypatch.setattr("intrinsic.embedding.provider.opened", counted)
    return seen


@both_backends
async def test_nothing_is_loaded_before_it_is_asked_for(
    model: Path, lora: Path, loads: list[str]
) -> None:
    provider = EmbeddingProvider(EmbeddingOptions(model=model, lora_adapter_path=lora))
    assert loads == []
    with pytest.raises(EncoderError, match=r"not loaded, .* await initialize\(\) first"):
        _ = provider.dimension
    await provider.initialize()
    assert loads == [str(model)]
    assert (provider.dimension, provider.batch_size) == (small.WIDTH, 32)
    assert provider.loaded_adapters == ("default",)
    await provider.close()


@both_backends
async def test_loading_twice_or_at_once_is_loading_once(
    model: Path, lora: Path, loads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "intrinsic.embedding")
    provider = EmbeddingProvider(EmbeddingOptions(model=model, lora_adapter_path=lora))
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(provider.initialize)
        tasks.start_soon(provider.embed_batch, WORDS)
    await provider.initialize()
    assert loads == [str(model)]
    (message,) = [m for m in caplog.messages if str(lora) in m]
    assert "loaded in" in message
    assert " ms" in message
    await provider.close()


@both_backends
async def test_the_first_text_loads_what_is_needed(model: Path, loads: list[str]) -> None:
    provider = EmbeddingProvider(EmbeddingOptions(model=model))
    assert (await provider.embed_text("x")).shape == (small.WIDTH,)
    assert loads == [str(model)]
    await provider.close()


@both_backends
async def test_a_closed_provider_says_so_and_opens_again(model: Path, lora: Path) -> None:
    provider = EmbeddingProvider(EmbeddingOptions(model=model, lora_adapter_path=lora))
    async with provider:
        before = await provider.embed_batch(WORDS)
    with pytest.raises(EncoderError, match=r"is closed; await initialize\(\) first"):
        await provider.embed_batch(WORDS)
    await provider.close()
    async with provider:
        np.testing.assert_allclose(await provider.embed_batch(WORDS), before, atol=1e-6)


def torn(lora: Path, folder: Path, model: Path) -> tuple[Path, type[Exception]]:
    shutil.copytree(lora, folder)
    (folder / "adapter_model.safetensors").write_bytes(b"torn")
    return folder, CheckpointError


def of_another_model(lora: Path, folder: Path, model: Path) -> tuple[Path, type[Exception]]:
    wider = small.decoder(folder.with_name("decoder"))
    return small.adapter(folder, wider, target_modules=["q_proj"]), IncompatibleAdapterError


@pytest.mark.parametrize("make", [torn, of_another_model])
@both_backends
async def test_an_adapter_that_cannot_be_served_stops_the_start(
    make: Callable[[Path, Path, Path], tuple[Path, type[Exception]]],
    model: Path,
    lora: Path,
    tmp_path: Path,
) -> None:
    folder, kind = make(lora, tmp_path / "unsound", model)
    provider = EmbeddingProvider(EmbeddingOptions(model=model, lora_adapter_path=folder))
    for _ in range(2):
        with pytest.raises(kind, match=str(folder)):
            await provider.initialize()
    with pytest.raises(kind, match=str(folder)):
        await provider.embed_batch(WORDS)
    assert provider.loaded_adapters == ()
    shutil.rmtree(folder)
    shutil.copytree(lora, folder)
    async with provider:  # once the files are sound, it starts
        assert same(await provider.embed_batch(WORDS), by_transformers(model, WORDS, lora=lora))


@pytest.mark.parametrize("make", [torn, of_another_model])
@both_backends
async def test_or_the_base_model_serves_and_the_log_says_why(
    make: Callable[[Path, Path, Path], tuple[Path, type[Exception]]],
    model: Path,
    lora: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder, _ = make(lora, tmp_path / "unsound", model)
    options = EmbeddingOptions(model=model, lora_adapter_path=folder, on_adapter_error="base")
    async with EmbeddingProvider(options) as provider:
        assert same(await provider.embed_batch(WORDS), by_transformers(model, WORDS))
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert f"adapter {folder} is not served, the base model is" in record.getMessage()


@pytest.mark.parametrize("name", ["/no/such/encoder", "nobody/no-such-encoder"])
@both_backends
async def test_a_model_that_is_not_there_is_one_sentence(name: str) -> None:
    provider = EmbeddingProvider(EmbeddingOptions(model=name))
    with pytest.raises(EncoderError, match=f"encoder '{name}' could not be loaded"):
        await provider.initialize()


@both_backends
async def test_a_model_without_a_transformer_is_refused(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    static = StaticEmbedding(tokenizer(), embedding_dim=8)
    SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path / "static"))
    provider = EmbeddingProvider(EmbeddingOptions(model=tmp_path / "static"))
    with pytest.raises(EncoderError, match="begins with StaticEmbedding, not with a transformer"):
        await provider.initialize()


@both_backends
async def test_adapters_are_served_without_peft(
    model: Path, lora: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = by_transformers(model, WORDS, lora=lora)
    without(monkeypatch, "peft")
    async with EmbeddingProvider(EmbeddingOptions(model=model, lora_adapter_path=lora)) as provider:
        assert same(await provider.embed_batch(WORDS), expected)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("package", ["torch", "sentence_transformers"])
@needs_onnx
@both_backends
async def test_without_torch_the_base_model_serves_and_a_warning_names_path_and_remedy(
    package: str,
    lora: Path,
    several: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing(monkeypatch, package)
    provider = EmbeddingProvider(
        EmbeddingOptions(lora_adapter_path=lora), registry=AdapterRegistry.from_folder(several)
    )
    async with provider:
        vectors = await provider.embed_batch(WORDS)
        assert vectors.shape == (2, 384)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
        with pytest.raises(Exception, match="adapters on an encoder need torch"):
            await provider.embed_text("x", adapter="a0")
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "intrinsic.embedding"]
    assert f"adapter {lora} is not served, since {package} cannot be imported" in warning
    assert "pip install intrinsic-lora" in warning


@pytest.mark.parametrize("package", ["torch", "sentence_transformers"])
@both_backends
async def test_without_torch_another_model_cannot_serve(
    package: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing(monkeypatch, package)
    provider = EmbeddingProvider(EmbeddingOptions(model=model))
    with pytest.raises(EncoderError, match=f"{package} cannot be imported .*pip install"):
        await provider.initialize()


def missing(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make as if a package was missing when the encoder's modules are imported."""
    for name in ("adapted", "encoder", "loading", "memory"):
        importlib.import_module(f"intrinsic.embedding.{name}")  # comes back as it was
    for name in ("adapted", "encoder", "loading", "memory"):
        monkeypatch.delitem(sys.modules, f"intrinsic.embedding.{name}")
    without(monkeypatch, package)
