"""The fourth layer beside the last: the formula, layer by layer, and the way back to plain ones."""

from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import pytest
import torch

from intrinsic.errors import ConfigError
from intrinsic.routing.encoder import EncoderOptions, SentenceEncoder
from intrinsic.routing.middle_layer import AT
from intrinsic.routing.model_loading import load_model
from intrinsic.routing.onnx_export import MIDDLE
from intrinsic.routing.router import Vectors

TEXTS = ["how is asthma treated", "book me a flight to Paris, and a hotel near the river", "no"]


def embedded(texts: list[str], folder: Path | None = None, **options: object) -> Vectors:
    encoder = SentenceEncoder(
        options=EncoderOptions(cache_dir=folder, **({"runtime": "torch"} | options))  # type: ignore[arg-type]
    )
    return anyio.run(encoder.embed_cards, texts)


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


def test_both_runtimes_mean_the_same_layer() -> None:
    assert AT == MIDDLE


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_vector_is_the_sum_of_both_layers_means(share: float) -> None:
    model = load_model(None, "cpu")
    rows = []
    for text in TEXTS:
        with torch.inference_mode():
            found = model[0].auto_model(
                **model.tokenizer(text, return_tensors="pt"), output_hidden_states=True
            )
        last, middle = found.last_hidden_state.mean(1), found.hidden_states[AT].mean(1)
        rows.append(unit(unit(last) + share * unit(middle))[0].numpy())
    ours = embedded(TEXTS, middle_layer=share)  # padded to the longest
    np.testing.assert_allclose(ours, rows, atol=1e-6)


def test_without_it_vectors_are_those_of_sentence_transformers() -> None:
    plain = load_model(None, "cpu").encode(TEXTS)
    np.testing.assert_allclose(embedded(TEXTS, middle_layer=0.0), plain, atol=1e-6)
    assert np.abs(embedded(TEXTS) - plain).max() > 0.01


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_vectors_on_disk_are_of_the_same_share(tmp_path: Path, runtime: str) -> None:
    found = [
        embedded(TEXTS, tmp_path, middle_layer=share, runtime=runtime) for share in (0.5, 0.0, 0.5)
    ]
    assert np.abs(found[0] - found[1]).max() > 0.01
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_makes_no_sense_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"middle_layer is .*; it must lie in \[0, 1\]"):
        EncoderOptions(middle_layer=share)
