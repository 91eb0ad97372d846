"""The engine on a GPU; without one these say why they were not run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intrinsic.engine import LoraEngine
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.tiny import llama, tokens, write_adapter

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
