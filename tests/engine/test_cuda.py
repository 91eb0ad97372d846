"""The engine on a GPU; without one these say why they were not run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intrinsic.engine import LoraEngine
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.tiny import factors_for, llama, tokenizer, tokens, write_adapter, write_files

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mixtures_on_the_gpu_equal_those_on_the_cpu_and_leave_no_trace(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    checkpoint = read_checkpoint(write_adapter(tmp_path, llama(), targets=("q_proj", "up_proj")))
    mixture = Mixture.of({"a": 0.7})
    found = {}
    for device in ("cpu", "cuda"):
        model = llama(dtype=dtype).to(device)
        engine = LoraEngine(model)
        before = engine.fingerprint()
        engine.load(checkpoint, "a")
        ids = tokens().to(device)
        with torch.no_grad(), engine.activate(mixture):
            beside = model(ids).logits
        with torch.no_grad(), engine.activate([mixture, BASE]):
            rows = model(ids).logits
        engine.merge(mixture)
        with torch.no_grad(), engine.activate(mixture):
            merged = model(ids).logits
        engine.close()
        assert engine.fingerprint() == before
        found[device] = [t.float().cpu() for t in (beside, rows, merged)]
    tolerance = 1e-3 if dtype == torch.float32 else 0.1
    for cpu, cuda in zip(found["cpu"], found["cuda"], strict=True):
        torch.testing.assert_close(cuda, cpu, atol=tolerance, rtol=tolerance)


def test_switching_waits_for_nothing_on_the_gpu(tmp_path: Path) -> None:
    model = llama().to("cuda")
    engine = LoraEngine(model)
    for seed, name in enumerate("ab"):
        engine.load(read_checkpoint(write_adapter(tmp_path / name, model, seed=seed)), name)
    ids = tokens().to("cuda")
    with torch.no_grad(), engine.activate(Mixture.of({"a": 0.1})):
        model(ids)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.no_grad():
            for weight in (0.3, 0.7):
                with engine.activate(Mixture.of({"a": weight, "b": 1.0})):
                    model(ids)
                with engine.activate([Mixture.of({"a": weight}), BASE]):
                    model(ids)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_requests_under_different_mixtures_share_a_batch_on_the_gpu(tmp_path: Path) -> None:
    import anyio

    from intrinsic.backends import GenerationOptions
    from intrinsic.backends.transformers_backend import TransformersBackend

    mixtures = [Mixture.of({"a": 1.0}), Mixture.of({"b": -0.5}), BASE]
    found: dict[str, dict[int, str]] = {}

    async def main(device: str) -> None:
        backend = TransformersBackend(llama().to(device), tokenizer())
        for seed, name in enumerate("ab"):
            path = write_adapter(tmp_path / f"{device}{name}", backend.model, seed=seed)
            await backend.load_lora_adapter(str(path), name)
        texts = found[device] = {}

        async def ask(number: int) -> None:
            generation = await backend.generate(
                "hello", mixture=mixtures[number], options=GenerationOptions(max_new_tokens=12)
            )
            texts[number] = generation.text

        async with anyio.create_task_group() as tasks:
            for number in range(len(mixtures)):
                tasks.start_soon(ask, number)

    for device in ("cpu", "cuda"):
        anyio.run(main, device)
    assert found["cpu"] == found["cuda"]


def test_an_adapter_loaded_while_another_is_merged_lies_on_the_gpu(tmp_path: Path) -> None:
    """Though the pristine weights that it is prepared with lie in host memory."""
    model = llama().to("cuda")
    engine = LoraEngine(model, pristine="host")
    engine.load(read_checkpoint(write_adapter(tmp_path / "a", model)), "a")
    before = engine.fingerprint()
    engine.merge(Mixture.of({"a": 1.0}))
    tensors = factors_for(model, ["q_proj"])
    for name, layer in model.named_modules():
        if name.endswith("q_proj"):
            tensors[f"base_model.model.{name}.lora_B.bias"] = torch.ones(layer.weight.shape[0])
    folder = write_files(tmp_path / "b", tensors, target_modules=["q_proj"], lora_bias=True)
    engine.load(read_checkpoint(folder), "b")
    engine.restore()
    assert engine.fingerprint() == before
    with torch.no_grad(), engine.activate(Mixture.of({"a": 0.5, "b": 0.5})):
        assert torch.isfinite(model(tokens().to("cuda")).logits).all()
