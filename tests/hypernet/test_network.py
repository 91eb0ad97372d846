"""The hypernetwork's door: sizes, scale, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.network import HyperNetwork
from tests.hypernet.nets import DIM, GROUPED_QUERY, fresh, queries, shaken


def test_the_scale_is_alpha_over_r_and_not_in_the_factors() -> None:
    one, other = (shaken(fresh(alpha=alpha)) for alpha in (6.0, 60.0))
    assert (one.scale, other.scale) == (2.0, 20.0)
    for (A, B), (other_A, other_B) in zip(one(queries()), other(queries()), strict=True):
        assert torch.equal(A, other_A)
        assert torch.equal(B, other_B)


def test_it_describes_itself_in_plain_values() -> None:
    network = fresh()
    assert network.describe() == {
        "architecture": "core",
        "options": {},
        "parameters": sum(p.numel() for p in network.parameters()),
        "payload_bytes": len(GROUPED_QUERY) * 9 * 4,
        "targets": len(GROUPED_QUERY),
        "embed_dim": DIM,
        "rank": 3,
        "alpha": 6.0,
    }


def test_the_plain_constructor_makes_square_layers() -> None:
    network = HyperNetwork.from_dimensions(12, 16, 2, 3, 8)
    factors = network(queries()[0])
    assert [target.name for target in network.targets] == ["layer.0", "layer.1", "layer.2"]
    assert [(A.shape, B.shape) for A, B in factors] == [((2, 16), (16, 2))] * 3
    assert not any((B @ A).any() for A, B in factors)


def test_arrays_and_other_dtypes_are_taken() -> None:
    network = shaken(fresh())
    query = queries()[0]
    for given in (query.numpy(), query.double(), query.numpy().astype(np.float64)):
        for (A, B), (same_A, same_B) in zip(network(query), network(given), strict=True):
            assert torch.equal(A, same_A)
            assert torch.equal(B, same_B)


@pytest.mark.parametrize("shape", [(DIM + 1,), (2, DIM - 1), (), (1, 1, DIM), (0, DIM)])
def test_an_embedding_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(HypernetError, match=rf"takes \({DIM},\) or \(n, {DIM}\): use the encoder"):
        fresh()(torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_embedding_that_is_not_finite_is_refused(value: float) -> None:
    embedding = queries()
    embedding[1, 3] = value
    for call in (fresh(), fresh().payload):
        with pytest.raises(HypernetError, match="NaN or infinite"):
            call(embedding)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"embed_dim": 0}, "embed_dim is 0"),
        ({"rank": 1.5}, "rank is 1.5"),
        ({"rank": 10_000_000}, "rank is 10000000; no layer is wider than"),
        ({"alpha": 0}, "alpha is 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": "16"}, "alpha is '16'"),
        ({"targets": ()}, "at least one target"),
        ({"targets": GROUPED_QUERY + GROUPED_QUERY[:1]}, "q_proj' is given twice"),
    ],
)
def test_settings_that_are_not_valid_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        HyperNetwork(**({"targets": GROUPED_QUERY, "embed_dim": DIM} | settings))  # type: ignore[arg-type]


def test_the_fingerprint_is_that_of_settings_and_weights() -> None:
    same = {shaken(fresh()).fingerprint() for _ in range(2)}
    others = {
        fresh().fingerprint(),
        shaken(fresh(), seed=3).fingerprint(),
        shaken(fresh(alpha=7.0)).fingerprint(),
    }
    assert len(same) == 1
    assert len(others - same) == 3


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, intrinsic.hypernet; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_intrinsic_does_not_import_it() -> None:
    code = "import sys, intrinsic; assert 'intrinsic.hypernet' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
