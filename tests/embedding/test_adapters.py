"""Several adapters in one encoder: per call and per text, changed on disk, and evicted."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from intrinsic import Mixture
from intrinsic.embedding import Adapter, EmbeddingOptions, EmbeddingProvider
from intrinsic.errors import (
    AdapterNotFoundError,
    CapacityError,
    CheckpointError,
    EncoderError,
    IncompatibleAdapterError,
    MixtureError,
)
from intrinsic.registry import AdapterRegistry
from tests.bus.backends import both_backends
from tests.embedding import small
from tests.embedding.small import by_transformers, same
from tests.tiny import tokenizer

WORDS = ["a cat", "the dog that barks", "one two three four five", "birds"]


def provider_of(
    model: Path, registry: AdapterRegistry | None = None, **options: Any
) -> EmbeddingProvider:
    return EmbeddingProvider(EmbeddingOptions(model=model, **options), registry=registry)


@both_backends
async def test_one_batch_holds_another_adapter_per_text(
    model: Path, lora: Path, several: Path, registry: AdapterRegistry
) -> None:
    asked: list[Adapter] = ["a0", "base", "a1@1", None]
    async with provider_of(model, registry, lora_adapter_path=lora) as provider:
        found = await provider.embed_batch(WORDS, adapters=asked)
    for at, path in enumerate([several / "a0", None, several / "a1", lora]):
        assert same(found[at : at + 1], by_transformers(model, WORDS[at : at + 1], lora=path))


@both_backends
async def test_a_mixture_is_the_sum_of_what_its_adapters_change(
    model: Path, several: Path, registry: AdapterRegistry
) -> None:
    network = AutoModel.from_pretrained(str(model)).eval()
    state = network.state_dict()
    for name, weight in (("a0", 0.75), ("a1", -0.5)):
        factors = load_file(several / name / "adapter_model.safetensors")
        for key in factors:
            if key.endswith("lora_A.weight"):
                layer = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                B = factors[key.replace("lora_A", "lora_B")]
                state[f"{layer}.weight"] += weight * 2.0 * B @ factors[key]  # alpha / r is 2
    rows = []
    with torch.no_grad():
        for text in WORDS:
            ids = torch.tensor([tokenizer()(text)["input_ids"]])
            rows.append(network(input_ids=ids).last_hidden_state[0].mean(0))
    expected = torch.stack(rows).numpy()
    async with provider_of(model, registry) as provider:
        weights = {"a0": 0.75, "a1@1": -0.5}
        assert same(await provider.embed_batch(WORDS, adapters=weights), expected)
        mixture = Mixture.of(weights)
        assert same(await provider.embed_batch(WORDS, adapters=mixture), expected)
        assert same((await provider.embed_text(WORDS[0], adapter=mixture))[None], expected[:1])


@both_backends
async def test_weights_of_nothing_and_of_the_base_change_nothing(
    model: Path, registry: AdapterRegistry
) -> None:
    async with provider_of(model, registry) as provider:
        base = await provider.embed_batch(WORDS, adapters="base")
        for weights in ({}, {"a0": 0.0}, {"base": 2.0}):
            np.testing.assert_array_equal(await provider.embed_batch(WORDS, adapters=weights), base)
        half = await provider.embed_batch(WORDS, adapters={"a0": 0.5})
        mixed = await provider.embed_batch(WORDS, adapters={"base": 0.5, "a0": 0.5})
    np.testing.assert_array_equal(mixed, half)


@both_backends
async def test_scaling_multiplies_what_the_adapter_does(model: Path, lora: Path) -> None:
    async with provider_of(model, lora_adapter_path=lora, scaling=0.5) as provider:
        half = await provider.embed_batch(WORDS)
        assert not same(half, await provider.embed_batch(WORDS, adapters={"default": 2.0}))
    async with provider_of(model, lora_adapter_path=lora) as provider:
        np.testing.assert_allclose(
            await provider.embed_batch(WORDS, adapters={"default": 0.5}), half, atol=1e-5
        )
    async with provider_of(model, lora_adapter_path=lora, scaling=1) as provider:  # as from a file
        np.testing.assert_allclose(
            await provider.embed_batch(WORDS, adapters={"default": 0.5}), half, atol=1e-5
        )


@both_backends
async def test_what_is_not_known_or_too_much_is_refused_in_words(
    model: Path, registry: AdapterRegistry
) -> None:
    async with provider_of(model, registry, max_loaded=2) as provider:
        with pytest.raises(AdapterNotFoundError, match=r"unknown adapter 'a9'.*a0@1, a1@1, a2@1"):
            await provider.embed_text("x", adapter="a9")
        with pytest.raises(AdapterNotFoundError, match="unknown adapter 'default'"):
            await provider.embed_text("x", adapter="default")
        with pytest.raises(CapacityError, match="3 adapters does not fit max_loaded=2"):
            await provider.embed_text("x", adapter={"a0": 1.0, "a1": 1.0, "a2": 1.0})
        with pytest.raises(EncoderError, match="1 adapters were given for 2 texts"):
            await provider.embed_batch(["x", "y"], adapters=["a0"])
        with pytest.raises(MixtureError, match="named twice"):
            await provider.embed_text("x", adapter={"a0": 1.0, "a0@1": 1.0})
        for weight in (float("nan"), "1", None):
            with pytest.raises(MixtureError, match=r"weight of adapter 'a0(@1)?' is .*must be a"):
                await provider.embed_text("x", adapter={"a0": weight})  # type: ignore[dict-item]
        for adapters in (5, [5], [["a0"]], b"a"):
            with pytest.raises(EncoderError, match=r"an adapter is given as .* it must be a name"):
                await provider.embed_batch(["x"], adapters=adapters)  # type: ignore[arg-type]
        assert provider.loaded_adapters == ()


@both_backends
async def test_the_least_recently_used_adapter_leaves_and_the_default_stays(
    model: Path, lora: Path, registry: AdapterRegistry
) -> None:
    async with provider_of(model, registry, lora_adapter_path=lora, max_loaded=2) as provider:
        for name in ("a0", "a1", "a0", "a2"):
            await provider.embed_text(f"x{name}", adapter=name)
        assert provider.loaded_adapters == ("default", "a0@1", "a2@1")


@both_backends
async def test_more_adapters_in_a_batch_than_fit_at_once_are_served_in_turn(
    model: Path, several: Path, registry: AdapterRegistry
) -> None:
    async with provider_of(model, registry, max_loaded=1) as provider:
        found = await provider.embed_batch(WORDS[:3], adapters=["a0", "a1", "a2"])
        assert len(provider.loaded_adapters) == 1
    for at in range(3):
        expected = by_transformers(model, WORDS[at : at + 1], lora=several / f"a{at}")
        assert same(found[at : at + 1], expected)


@pytest.mark.parametrize("prefix", ["0.model.", "0.auto_model.", "bert."])
@both_backends
async def test_names_that_stand_around_the_encoder_are_taken_off(
    prefix: str, model: Path, lora: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / "renamed"
    shutil.copytree(lora, renamed)
    weights = renamed / "adapter_model.safetensors"
    start = "base_model.model."
    save_file(
        {key.replace(start, start + prefix): t for key, t in load_file(weights).items()}, weights
    )
    async with provider_of(model, lora_adapter_path=renamed) as provider:
        assert same(await provider.embed_batch(WORDS), by_transformers(model, WORDS, lora=lora))


@pytest.mark.parametrize("whole", [True, False], ids=["get_peft_model", "add_adapter"])
@both_backends
async def test_folders_that_sentence_transformers_wrote_are_served(
    whole: bool, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from sentence_transformers import SentenceTransformer

    folder = small.sentence_bert(tmp_path / "st")
    trained = SentenceTransformer(str(folder), device="cpu")
    config = LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)
    if whole:
        get_peft_model(trained, config).save_pretrained(str(tmp_path / "lora"))
    else:
        trained.add_adapter(config)
        trained.save_pretrained(str(tmp_path / "lora"))
    async with provider_of(folder, lora_adapter_path=tmp_path / "lora") as provider:
        found = await provider.embed_batch(WORDS)
    np.testing.assert_allclose(found, trained.encode(WORDS), atol=1e-5)


def replaced(folder: Path, by: Path) -> None:
    """Put another adapter's files in place of those of a folder."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(by / name, folder / f"{name}.new")
        os.replace(folder / f"{name}.new", folder / name)


@both_backends
async def test_changed_files_are_served_from_the_next_use_on(
    model: Path, lora: Path, several: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "lora"
    shutil.copytree(lora, folder)
    caplog.set_level(logging.INFO, "intrinsic.embedding")
    async with provider_of(model, lora_adapter_path=folder) as provider:
        before = await provider.embed_batch(WORDS)
        replaced(folder, several / "a0")
        after = await provider.embed_batch(WORDS)
        assert same(before, by_transformers(model, WORDS, lora=lora))
        assert same(after, by_transformers(model, WORDS, lora=several / "a0"))
        assert provider.loaded_adapters == ("default",)
    assert sum("loaded again, since its files changed" in m for m in caplog.messages) == 1


@both_backends
async def test_files_that_were_only_touched_are_not_loaded_again(
    model: Path, lora: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "lora"
    shutil.copytree(lora, folder)
    async with provider_of(model, lora_adapter_path=folder) as provider:
        before = await provider.embed_batch(WORDS)
        caplog.set_level(logging.INFO, "intrinsic.embedding")
        replaced(folder, lora)
        np.testing.assert_array_equal(await provider.embed_batch(WORDS), before)
    assert caplog.messages == []


@both_backends
async def test_new_files_that_are_not_sound_leave_the_old_adapter_and_one_warning(
    model: Path, lora: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "lora"
    shutil.copytree(lora, folder)
    async with provider_of(model, lora_adapter_path=folder) as provider:
        before = await provider.embed_batch(WORDS)
        (folder / "adapter_model.safetensors").write_bytes(b"torn")
        np.testing.assert_array_equal(await provider.embed_batch(WORDS), before)
        np.testing.assert_array_equal(await provider.embed_batch(WORDS), before)
        shutil.rmtree(folder)
        np.testing.assert_array_equal(await provider.embed_batch(WORDS), before)
    (warning,) = [m for m in caplog.messages if "served as it was before" in m]
    assert str(folder) in warning


@both_backends
async def test_another_folder_under_a_name_is_another_adapter(model: Path, several: Path) -> None:
    registry = AdapterRegistry()
    registry.register_adapter(several / "a0", name="mine")
    async with provider_of(model, registry) as provider:
        await provider.embed_batch(WORDS, adapters="mine")
        registry.remove_adapter("mine")
        registry.register_adapter(several / "a1", name="mine")
        found = await provider.embed_batch(WORDS, adapters="mine")
    assert same(found, by_transformers(model, WORDS, lora=several / "a1"))


@both_backends
async def test_an_adapter_that_cannot_be_served_fails_for_its_own_texts_alone(
    model: Path, several: Path, tmp_path: Path
) -> None:
    import anyio

    torn, other = tmp_path / "torn", tmp_path / "other"
    shutil.copytree(several / "a0", torn)
    (torn / "adapter_model.safetensors").write_bytes(b"torn")
    wider = small.decoder(tmp_path / "decoder")
    small.adapter(other, wider, target_modules=["q_proj"])
    registry = AdapterRegistry.from_folder(several)
    registry.register_adapter(torn, name="torn")
    registry.register_adapter(other, name="other")
    async with provider_of(model, registry, max_loaded=1) as provider:
        await provider.embed_text("x", adapter="a1")

        async def fails(name: str, kind: type[Exception]) -> None:
            with pytest.raises(kind, match=name):
                await provider.embed_text("x", adapter=name)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fails, "torn", CheckpointError)
            tasks.start_soon(fails, "other", IncompatibleAdapterError)
            found = await provider.embed_batch(WORDS, adapters="a1")
        assert same(found, by_transformers(model, WORDS, lora=several / "a1"))
        assert provider.loaded_adapters == ("a1@1",)


@both_backends
async def test_the_encoders_weights_are_untouched(
    model: Path, lora: Path, registry: AdapterRegistry
) -> None:
    provider = provider_of(model, registry, lora_adapter_path=lora)
    async with provider:
        work: Any = provider._work
        before = work._engine.fingerprint()
        await provider.embed_batch(WORDS, adapters=["a0", "base", "a1", None])
        assert work._engine.fingerprint() == before
    assert "forward" not in {k for m in work._engine.model.modules() for k in vars(m)}
