"""What cannot be stored or is no stored weight is refused by layer, before anything changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from intrinsic.engine import LoraEngine
from intrinsic.errors import IncompatibleAdapterError, MixtureError
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import BASE, Mixture
from tests.tiny import llama, write_adapter, write_files

KEY = "base_model.model"


class Two(nn.Module):
    """Two layers, of which the second is the odd one."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.p = nn.Linear(8, 8, dtype=dtype)
        self.q = nn.Linear(8, 8, dtype=dtype)


def tensors(**last: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pairs for both layers; `last` are more tensors of the second, or others."""
    generator = torch.Generator().manual_seed(1)
    found: dict[str, torch.Tensor] = {}
    for name in "pq":
        found[f"{KEY}.{name}.lora_A.weight"] = torch.randn(4, 8, generator=generator)
        found[f"{KEY}.{name}.lora_B.weight"] = torch.randn(8, 4, generator=generator)
        for part in last:
            if part in ("magnitude", "bias"):
                found[_key(name, part)] = torch.ones(8)
    return found | {_key("q", part): tensor for part, tensor in last.items()}


def _key(layer: str, part: str) -> str:
    ends = {"magnitude": "lora_magnitude_vector", "bias": "lora_B.bias"}
    return f"{KEY}.{layer}.{ends.get(part, f'lora_{part}.weight')}"


def refused(engine: LoraEngine, folder: Path, words: str, scaling: float = 1.0) -> None:
    """Loading is refused, and the engine and its banks are as they were."""
    checkpoint = read_checkpoint(folder)
    forwards = [layer.forward for layer in engine.model.modules()]
    before = (engine.fingerprint(), engine.bytes_used, engine.loaded, forwards)
    with pytest.raises(IncompatibleAdapterError, match=words):
        engine.load(checkpoint, "new", scaling=scaling)
    forwards = [layer.forward for layer in engine.model.modules()]
    assert (engine.fingerprint(), engine.bytes_used, engine.loaded, forwards) == before


CASES: dict[str, tuple[dict[str, torch.Tensor], dict[str, object], float]] = {
    "a gain": ({"magnitude": torch.full((8,), 1e6)}, {"use_dora": True}, 1.0),
    "a scaled gain": ({"magnitude": torch.full((8,), 300.0)}, {"use_dora": True}, 5000.0),
    "a stretched B": (
        {"magnitude": torch.full((8,), 3e4), "B": torch.full((8, 4), 1e2)},
        {"use_dora": True, "lora_alpha": 1e-3},
        1e-4,
    ),
    "a bias": ({"bias": torch.full((8,), 1e6)}, {"lora_bias": True}, 1.0),
    "a scaled bias": ({"bias": torch.full((8,), 6e4)}, {"lora_bias": True}, 8.0),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside another"])
def test_what_overflows_half_precision_is_refused(tmp_path: Path, case: str, others: bool) -> None:
    last, settings, scaling = CASES[case]
    engine = LoraEngine(Two(torch.float16))
    if others:
        engine.load(read_checkpoint(write_files(tmp_path / "sound", tensors())), "a")
    folder = write_files(tmp_path / "large", tensors(**last), None, **settings)
    refused(engine, folder, r"\bq\b.*too large for torch\.float16", scaling)
    wide = LoraEngine(Two())
    wide.load(read_checkpoint(folder), "a", scaling=scaling)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_scale_that_is_no_number_of_the_products_is_refused(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = write_files(tmp_path, tensors(), None, lora_alpha=1e30)
    refused(LoraEngine(Two(dtype)), folder, r"[pq] has the scale .*e\+39, too large", 1e10)


def test_a_weight_that_is_infinite_in_half_precision_is_refused_in_words(tmp_path: Path) -> None:
    engine = LoraEngine(Two(torch.float16))
    engine.load(read_checkpoint(write_files(tmp_path, tensors())), "a")
    rows = [Mixture.of({"a": 1e5}), BASE]
    with engine.activate(rows), pytest.raises(MixtureError, match=r"200000, too large for .*16"):
        engine.model.q(torch.ones(2, 1, 8, dtype=torch.float16))  # type: ignore[operator]


class Doubled(nn.Module):
    """A parametrisation of our own."""

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        """Twice the values."""
        return 2 * tensor


def with_old_weight_norm(layer: nn.Linear) -> None:
    """What is left of a weight under a hook: a tensor that is no parameter."""
    weight = layer.weight.detach().clone()
    del layer.weight
    layer.weight = weight


PARAMETRISED: dict[str, tuple[Any, str]] = {
    "weight norm": (parametrizations.weight_norm, r"\(parametrised by WeightNorm\)"),
    "a bias": (lambda layer: parametrize.register_parametrization(layer, "bias", Doubled()), "Dou"),
    "a hook": (with_old_weight_norm, "by a hook"),
}


@pytest.mark.parametrize("kind", PARAMETRISED)
def test_a_layer_that_works_its_weight_out_is_refused(tmp_path: Path, kind: str) -> None:
    change, words = PARAMETRISED[kind]
    model = Two()
    change(model.q)
    refused(
        LoraEngine(model),
        write_files(tmp_path, tensors()),
        rf"q works its weight out at every pass .*{words}.*remove the parametrisation",
    )


def test_a_layer_whose_weight_is_elsewhere_is_refused(tmp_path: Path) -> None:
    model = llama()
    folder = write_adapter(tmp_path, model)
    model.model.layers[1].to("meta")
    engine = LoraEngine(model)
    with pytest.raises(IncompatibleAdapterError, match=r"layers\.1.*on the meta device"):
        engine.load(read_checkpoint(folder), "a")
    assert engine.bytes_used == 0
