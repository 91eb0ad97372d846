"""What lies at the edges of an engine: merged bases, shared biases, tasks that outlive a block."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import OPTConfig, OPTForCausalLM

from intrinsic.engine import LoraEngine
from intrinsic.engine.bank import FactorBank
from intrinsic.engine.prepared import Prepared
from intrinsic.errors import IncompatibleAdapterError, MixtureError, UnsupportedAdapterError
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import Mixture
from tests.tiny import gpt2, llama, tokens, write_adapter, write_files

KEY = "base_model.model"
ONE = Mixture.of({"a": 1.0})


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(tokens()).logits
        return out


def write_dora(folder: Path) -> Path:
    name = f"{KEY}.model.layers.0.self_attn.q_proj"
    generator = torch.Generator().manual_seed(3)
    tensors = {
        f"{name}.lora_A.weight": torch.randn(4, 32, generator=generator) * 0.3,
        f"{name}.lora_B.weight": torch.randn(32, 4, generator=generator) * 0.3,
        f"{name}.lora_magnitude_vector": torch.rand(32, generator=generator) + 0.5,
    }
    return write_files(folder, tensors, use_dora=True)


def test_dora_loaded_while_another_mixture_is_merged_is_that_of_the_base(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_adapter(tmp_path / "a", model)), "a")
    dora = read_checkpoint(write_dora(tmp_path / "dora"))
    engine.load(dora, "before")
    engine.merge(ONE)
    engine.load(dora, "meanwhile")
    engine.restore()
    found = []
    for name in ("before", "meanwhile"):
        with engine.activate(Mixture.of({name: 1.0})):
            found.append(logits(model))
    torch.testing.assert_close(*found)


def test_a_copy_of_embeddings_is_compared_with_pristine_ones(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    name = f"{KEY}.lm_head"
    tensors = {
        f"{name}.lora_A.weight": torch.randn(4, 32),
        f"{name}.lora_B.weight": torch.randn(97, 4),
        f"{name}.base_layer.weight": model.lm_head.weight.detach().clone(),
    }
    checkpoint = read_checkpoint(write_files(tmp_path, tensors))
    engine.load(checkpoint, "a")
    engine.merge(ONE)
    engine.load(checkpoint, "b")
    engine.restore()


class Shared(nn.Module):
    """Two layers with one bias."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Linear(8, 8)
        self.q = nn.Linear(8, 8)
        self.q.bias = self.p.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.q(self.p(x))
        return out


def test_a_bias_is_not_merged_where_layers_share_it(tmp_path: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for name in ("p", "q"):
        tensors[f"{KEY}.{name}.lora_A.weight"] = torch.randn(4, 8)
        tensors[f"{KEY}.{name}.lora_B.weight"] = torch.randn(8, 4)
        tensors[f"{KEY}.{name}.lora_B.bias"] = torch.randn(8)
    engine = LoraEngine(Shared())
    engine.load(read_checkpoint(write_files(tmp_path, tensors, lora_bias=True)), "a")
    before = engine.fingerprint()
    with pytest.raises(UnsupportedAdapterError, match=r"p\.bias and q\.bias share one weight"):
        engine.merge(ONE)
    assert engine.fingerprint() == before


async def test_a_task_that_outlives_its_activation_is_refused(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_adapter(tmp_path, model)), "a")
    go = asyncio.Event()

    async def later() -> torch.Tensor:
        await go.wait()
        return logits(model)

    with engine.activate(ONE):
        logits(model)
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    go.set()
    with pytest.raises(MixtureError, match="outlived its activation"):
        await task


def test_layers_may_be_called_by_keyword(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_adapter(tmp_path, model)), "a")
    layer = model.model.layers[0].self_attn.q_proj
    x = torch.randn(2, 3, 32)
    with engine.activate(ONE):
        assert torch.equal(layer(input=x), layer(x))


def test_an_embedding_with_a_lookup_of_its_own_is_refused(tmp_path: Path) -> None:
    model: Any = OPTForCausalLM(
        OPTConfig(
            vocab_size=97, hidden_size=32, ffn_dim=48, num_hidden_layers=1,
            num_attention_heads=4, max_position_embeddings=64, word_embed_proj_dim=32,
        )
    ).eval()  # fmt: skip
    name = f"{KEY}.model.decoder.embed_positions"
    tensors = {
        f"{name}.lora_embedding_A": torch.randn(4, 66),
        f"{name}.lora_embedding_B": torch.randn(32, 4),
    }
    engine = LoraEngine(model)
    plain = logits(model)
    with pytest.raises(IncompatibleAdapterError, match="a way of its own"):
        engine.load(read_checkpoint(write_files(tmp_path, tensors)), "a")
    assert torch.equal(logits(model), plain)


def test_ids_that_all_rows_share_are_not_cut_among_them(tmp_path: Path) -> None:
    model = llama()
    tensors = {
        f"{KEY}.model.embed_tokens.lora_embedding_A": torch.randn(4, 97),
        f"{KEY}.model.embed_tokens.lora_embedding_B": torch.randn(32, 4),
    }
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_files(tmp_path, tensors)), "a")
    with engine.activate([ONE, Mixture()]), pytest.raises(MixtureError, match="cannot tell which"):
        model.model.embed_tokens(torch.arange(4, 8))


def test_passes_do_not_wait_for_a_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    engine = LoraEngine(model)
    checkpoint = read_checkpoint(write_adapter(tmp_path, model))
    engine.load(checkpoint, "a")
    with engine.activate(ONE):
        wanted = logits(model)
    add, copying, go = FactorBank.add, threading.Event(), threading.Event()

    def waits(bank: FactorBank, adapter: str, prepared: Prepared) -> None:
        add(bank, adapter, prepared)
        copying.set()
        assert go.wait(30)

    monkeypatch.setattr(FactorBank, "add", waits)
    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(engine.load, checkpoint, "b")
        assert copying.wait(30)
        try:
            assert torch.equal(threads.submit(under_one, engine).result(30), wanted)
            assert [adapter.id for adapter in engine.loaded] == ["a"]
        finally:
            go.set()
        assert loading.result(30).id == "b"


def under_one(engine: LoraEngine) -> torch.Tensor:
    with engine.activate(ONE):
        return logits(engine.model)


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize(
    ("dtype", "weight"), [(torch.float32, 1e39), (torch.float32, 1e308), (torch.float16, 1e5)]
)
def test_a_weight_too_large_is_refused_wherever_adapters_lie(
    tmp_path: Path, dtype: torch.dtype, weight: float, neighbours: bool
) -> None:
    model = llama(dtype=dtype)
    engine = LoraEngine(model)
    for seed, name in enumerate("ab"):
        path = write_adapter(tmp_path / name, model, seed=seed)
        engine.load(read_checkpoint(path), name)
    mixture = Mixture.of({"a": weight} | ({"b": 1.0} if neighbours else {}))
    mixtures: list[Any] = [mixture, [mixture, Mixture()]]
    for asked in mixtures:
        with (
            engine.activate(asked),
            pytest.raises(MixtureError, match=r"too large for torch\.float"),
        ):
            model(tokens())


def test_what_others_put_around_a_layer_stays_when_adapters_leave(tmp_path: Path) -> None:
    model = llama()
    engine = LoraEngine(model)
    checkpoint = read_checkpoint(write_adapter(tmp_path, model))
    engine.load(checkpoint, "a")
    layer, calls = model.model.layers[0].self_attn.q_proj, []
    inner = layer.forward

    def wrapper(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        out: torch.Tensor = inner(x)
        return out

    layer.forward = wrapper
    with torch.no_grad(), engine.activate(Mixture.of({"a": 1.0})):
        changed = model(tokens()).logits
    engine.unload("a")
    with torch.no_grad():
        base = model(tokens()).logits
    assert len(calls) == 2
    assert not torch.equal(changed, base)
    engine.load(checkpoint, "a")
    with torch.no_grad(), engine.activate(Mixture.of({"a": 1.0})):
        again = model(tokens()).logits
    torch.testing.assert_close(again, changed)


def test_conv1d_may_be_called_by_its_own_keyword(tmp_path: Path) -> None:
    model = gpt2()
    engine = LoraEngine(model)
    engine.load(read_checkpoint(write_adapter(tmp_path, model, targets=["c_attn"])), "a")
    layer = model.transformer.h[0].attn.c_attn
    x = torch.randn(2, 3, 32)
    with torch.no_grad(), engine.activate(Mixture.of({"a": 1.0})):
        assert torch.equal(layer(x=x), layer(x))
