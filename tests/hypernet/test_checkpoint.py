"""A saved hypernetwork comes back as it was, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from intrinsic.errors import AdapterExistsError, HypernetError
from intrinsic.hypernet.checkpoint import Saved, load, save
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.marks import BaseMark, EncoderMark
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.targets import targets_of
from tests.hypernet.nets import DIM, fresh, queries, shaken
from tests.tiny import gpt2, llama


class Encoder:
    """Letters counted by their place in the alphabet, and turned by a matrix."""

    name = "letters"
    dimension = DIM

    def __init__(self, seed: int = 0, noise: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self._matrix = rng.normal(size=(128, DIM)).astype(np.float32)
        self._noise = np.float32(noise)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.zeros((len(texts), 128), np.float32)
        for row, text in zip(counts, texts, strict=True):
            for letter in text:
                row[ord(letter) % 128] += 1
        found = counts @ self._matrix
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found + self._noise


@pytest.fixture
def base() -> BaseMark:
    return BaseMark.of(llama(), "tiny")


def network_of(architecture: str = "core") -> HyperNetwork:
    torch.manual_seed(0)
    return shaken(HyperNetwork(targets_of(llama()), DIM, 3, 6.0, architecture=architecture))


def saved(folder: Path, base: BaseMark, **settings: Any) -> Path:
    encoder = EncoderMark.of(Encoder())
    return save(network_of(), folder, base=base, encoder=encoder, **settings)


@pytest.mark.parametrize("architecture", ["core", "core_diagonal", "heads", "per_rank"])
def test_what_was_saved_comes_back(architecture: str, base: BaseMark, tmp_path: Path) -> None:
    network = network_of(architecture)
    gate = Gate(queries(5), 0.25, max_relative_norm=0.5, neighbours=2, example_share=0.6)
    encoder = EncoderMark.of(Encoder())
    record = {"steps": 30, "losses": [1.5, 0.25]}
    save(network, tmp_path / "n", base=base, encoder=encoder, gate=gate, record=record)
    same = BaseMark.of(llama(), "another name for it")
    random_state = torch.get_rng_state()
    found: Saved = load(tmp_path / "n", base=same, encoder=EncoderMark.of(Encoder()))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert found.network.fingerprint() == network.fingerprint()
    assert found.network.targets == network.targets
    assert (found.base, found.encoder, found.record) == (base, encoder, record)
    assert found.gate is not None
    assert found.gate.example_share == 0.6
    for query in queries(4, seed=7):
        assert found.gate.admits(query, 0.4) == gate.admits(query, 0.4)
    for (A, B), (same_A, same_B) in zip(network(queries()), found.network(queries()), strict=True):
        assert torch.equal(A, same_A)
        assert torch.equal(B, same_B)


def test_a_gate_that_was_saved_without_a_share_has_none(base: BaseMark, tmp_path: Path) -> None:
    folder = saved(tmp_path / "n", base, gate=Gate(queries(), 0.2))
    edited(folder, lambda s: s["gate"].pop("example_share"))
    gate = load(folder).gate
    assert gate is not None
    assert gate.example_share is None


def test_no_gate_is_no_gate(base: BaseMark, tmp_path: Path) -> None:
    assert load(saved(tmp_path / "n", base)).gate is None


def test_options_and_transposed_layers_come_back(tmp_path: Path) -> None:
    network = shaken(HyperNetwork(targets_of(gpt2()), DIM, 2, hidden_dim=5))
    encoder = EncoderMark.of(Encoder())
    save(network, tmp_path / "n", base=BaseMark.of(gpt2(), "g"), encoder=encoder)
    found = load(tmp_path / "n").network
    assert found.options == {"hidden_dim": 5}
    assert all(target.transposed for target in found.targets)


def test_the_same_network_gives_the_same_bytes(base: BaseMark, tmp_path: Path) -> None:
    folders = [saved(tmp_path / name, base) for name in "ab"]
    one, other = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert one == other
    assert one.keys() == {"config.json", "model.safetensors"}


def test_other_weights_are_refused_and_the_sentence_says_so(base: BaseMark, tmp_path: Path) -> None:
    folder = saved(tmp_path / "n", base)
    with pytest.raises(HypernetError, match=r"base model tiny, not twin: other weights \("):
        load(folder, base=BaseMark.of(llama(seed=1), "twin"))
    with pytest.raises(HypernetError, match="not half: dtype float32 against bfloat16"):
        load(folder, base=BaseMark.of(llama(dtype=torch.bfloat16), "half"))
    with pytest.raises(HypernetError, match="not other: model_type llama against gpt2"):
        load(folder, base=BaseMark.of(gpt2(), "other"))


def test_half_precision_is_the_same_base_in_float32(tmp_path: Path) -> None:
    half = llama(dtype=torch.bfloat16)
    folder = saved(tmp_path / "net", BaseMark.of(llama(dtype=torch.bfloat16).float(), "in fp32"))
    load(folder, base=BaseMark.of(half, "in bf16"))
    with torch.no_grad():
        half.lm_head.weight[0, 0] += 1
    with pytest.raises(HypernetError, match="dtype float32 against bfloat16"):
        load(folder, base=BaseMark.of(half, "changed"))


def test_equal_weights_that_compute_otherwise_are_another_base(
    base: BaseMark, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "n", base)
    model = llama()
    model.config.rms_norm_eps = 1e-5
    with pytest.raises(HypernetError, match="not eps: rms_norm_eps 1e-06 against 1e-05"):
        load(folder, base=BaseMark.of(model, "eps"))
    model = llama()
    model.config.rope_parameters = {"rope_type": "default", "rope_theta": 5e5}
    with pytest.raises(HypernetError, match="rope_parameters"):
        load(folder, base=BaseMark.of(model, "rope"))


def test_where_rotary_embeddings_depend_on_the_length_it_counts(tmp_path: Path) -> None:
    marks = []
    for length in (32, 64):
        model = llama()
        model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
        model.config.max_position_embeddings = length
        marks.append(BaseMark.of(model, str(length)))
    with pytest.raises(HypernetError, match="max_position_embeddings 32 against 64"):
        load(saved(tmp_path / "n", marks[0]), base=marks[1])


def test_what_passes_work_out_anew_is_no_weight(base: BaseMark, tmp_path: Path) -> None:
    folder = saved(tmp_path / "n", base)
    model = llama()
    model.model.rotary_emb.inv_freq.mul_(2)
    load(folder, base=BaseMark.of(model, "after a long text"))


def test_names_and_limits_make_no_other_base(base: BaseMark, tmp_path: Path) -> None:
    folder = saved(tmp_path / "n", base)
    model = llama()
    model.config.update({"architectures": ["Mine"], "max_position_embeddings": 9, "mine": 3})
    model.config.attention_dropout, model.config.use_cache = 0.1, False
    model.config.rope_parameters = {"rope_type": "default", "rope_theta": 10000}
    model.config.nested = {"dtype": "float32", (1, 2): {"dtype": "bfloat16"}}
    load(folder, base=BaseMark.of(model, "other words"))
    edited(folder, lambda s: s["base"].pop("values"))  # as it was saved before there were any
    model.config.rms_norm_eps = 1e-5
    load(folder, base=BaseMark.of(model, "eps"))
    edited(folder, lambda s: s["base"].update(values=[1]))
    with pytest.raises(HypernetError, match="is damaged"):
        load(folder)


def test_a_flipped_bit_is_seen(base: BaseMark, tmp_path: Path) -> None:
    path = saved(tmp_path / "n", base) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(HypernetError, match="has other bytes than were saved"):
        load(path.parent)


def test_another_encoder_is_refused_and_the_sentence_says_so(
    base: BaseMark, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "n", base)
    with pytest.raises(HypernetError, match=r"the encoder letters, not letters: other vectors"):
        load(folder, encoder=EncoderMark.of(Encoder(seed=1)))
    with pytest.raises(HypernetError, match="not wide: dimension 12 against 13"):
        load(folder, encoder=EncoderMark.of_vector("wide", [1.0] * 13))


def test_the_noise_of_another_machine_is_not_another_encoder(
    base: BaseMark, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "n", base)
    assert load(folder, encoder=EncoderMark.of(Encoder(noise=1e-3))).encoder.name == "letters"


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    change(settings)
    path.write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(format="other"), "is not that of a hypernetwork"),
        (lambda s: s.update(version=9), "has the version 9; this one reads 1"),
        (lambda s: s.pop("encoder"), "is damaged"),
        (lambda s: s["encoder"].update(probe="abc"), "is damaged"),
        (lambda s: s["base"].update(name=3), "is damaged"),
        (lambda s: s["network"].update(targets=[["a", 0, 3, False]]), "is damaged"),
        (lambda s: s["network"].update(architecture="mine"), "architecture is 'mine'; known"),
        (lambda s: s["network"].update(options={"depth": 2}), "has no option 'depth'"),
        (lambda s: s["network"].update(rank=4), "does not hold the tensors"),
        (lambda s: s["network"].update(embed_dim=10**12), "does not hold the tensors"),
        (lambda s: s["network"]["targets"].pop(), "does not hold the tensors"),
        (lambda s: s["network"]["targets"][0].__setitem__(0, [1]), "is damaged"),
        (lambda s: s["network"].update(rank=10**12), "no layer is wider than"),
        (lambda s: s["network"].update(options={"rank": 3}), "is damaged"),
        (lambda s: s["network"].update(architecture=[]), "is damaged"),
        (lambda s: s.update(gate={"threshold": 0.2}), "only a part of its gate"),
    ],
)
def test_a_damaged_config_is_refused(
    change: Callable[[dict[str, Any]], object], words: str, base: BaseMark, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "n", base)
    edited(folder, change)
    with pytest.raises(HypernetError, match=words):
        load(folder)


def test_a_damaged_gate_is_refused(base: BaseMark, tmp_path: Path) -> None:
    folder = saved(tmp_path / "n", base, gate=Gate(queries(), 0.2))
    wrongs: list[Any] = ["high", None, {}]
    while wrongs:
        edited(folder, lambda s: s["gate"].update(threshold=wrongs.pop()))
        with pytest.raises(HypernetError, match="its gate is damaged"):
            load(folder)


def test_a_damaged_file_is_refused(base: BaseMark, tmp_path: Path) -> None:
    folder = saved(tmp_path / "n", base)
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HypernetError, match="has other bytes than were saved"):
        load(folder)
    edited(folder, lambda s: s.pop("sha256"))  # as it was saved before there was one
    with pytest.raises(HypernetError, match=r"model\.safetensors cannot be read"):
        load(folder)
    tensors = safetensors.torch.load(whole)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    weights.write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(HypernetError, match="holds NaN or infinite values"):
        load(folder)
    weights.unlink()
    with pytest.raises(HypernetError, match=r"model\.safetensors cannot be read"):
        load(folder)
    config.write_text("{")
    with pytest.raises(HypernetError, match=r"config\.json is damaged"):
        load(folder)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HypernetError, match="name a folder that 'intrinsic hypernet train' wrote"):
        load(tmp_path / "nothing")


def test_only_a_hypernetwork_is_replaced_and_only_when_told(base: BaseMark, tmp_path: Path) -> None:
    folder = saved(tmp_path / "n", base)
    with pytest.raises(AdapterExistsError, match="exists already"):
        saved(folder, base)
    saved(folder, base, replace=True, record={"steps": 2})
    assert load(folder).record == {"steps": 2}
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(AdapterExistsError, match="not a folder of one hypernetwork"):
        saved(other, base, replace=True)
    assert [path.name for path in other.iterdir()] == ["config.json"]
    (folder / "notes").mkdir()
    with pytest.raises(AdapterExistsError, match="not a folder of one hypernetwork"):
        saved(folder, base, replace=True)
    assert (folder / "notes").is_dir()


def test_what_cannot_be_used_is_not_saved(base: BaseMark, tmp_path: Path) -> None:
    encoder = EncoderMark.of(Encoder())
    broken = fresh()
    with torch.no_grad():
        next(broken.parameters()).view(-1)[0] = float("inf")
    with pytest.raises(HypernetError, match="NaN or infinite values and is not saved"):
        save(broken, tmp_path / "n", base=base, encoder=encoder)
    short, gate = EncoderMark.of_vector("short", [1.0] * 3), Gate(queries(2, dim=5), 0.1)
    with pytest.raises(HypernetError, match="the encoder has vectors of 3, the hypernetwork takes"):
        save(fresh(), tmp_path / "n", base=base, encoder=short)
    with pytest.raises(HypernetError, match="the gate has vectors of 5, the hypernetwork takes 12"):
        save(fresh(), tmp_path / "n", base=base, encoder=encoder, gate=gate)
    assert list(tmp_path.iterdir()) == []
