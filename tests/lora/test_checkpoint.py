"""A checkpoint is read whole and sound, or refused in words that name file and tensor."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from intrinsic.errors import CheckpointError, UnsupportedAdapterError
from intrinsic.lora import read_checkpoint
from tests.tiny import factors_for, llama, write_adapter, write_files

KEY = "base_model.model.model.layers.0.self_attn.q_proj"
MODULE = "model.layers.0.self_attn.q_proj"


def pair(rank: int = 4) -> dict[str, torch.Tensor]:
    return {
        f"{KEY}.lora_A.weight": torch.ones(rank, 32),
        f"{KEY}.lora_B.weight": torch.ones(32, rank),
    }


def test_a_sound_checkpoint_gives_every_factor_with_its_scale(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_adapter(tmp_path / "a", llama(), r=4, alpha=6))
    assert len(checkpoint.factors) == 4
    factors = checkpoint.factors[MODULE]
    assert factors.A.shape == (4, 32)
    assert factors.B.shape == (32, 4)
    assert factors.scale == 1.5
    assert checkpoint.bytes_used == sum(
        t.numel() * 4 for f in checkpoint.factors.values() for t in (f.A, f.B)
    )


def test_rslora_scales_by_the_root_of_the_rank(tmp_path: Path) -> None:
    folder = write_files(tmp_path, pair(), r=4, lora_alpha=6, use_rslora=True)
    assert read_checkpoint(folder).factors[MODULE].scale == 6 / math.sqrt(4)


def test_rank_and_alpha_patterns_are_per_module(tmp_path: Path) -> None:
    folder = write_adapter(
        tmp_path,
        llama(),
        targets=("q_proj", "v_proj"),
        ranks={"q_proj": 2, "v_proj": 4},
        rank_pattern={"q_proj": 2},
        alpha_pattern={r"layers\.1\.self_attn\.v_proj": 20},
    )
    factors = read_checkpoint(folder).factors
    assert factors["model.layers.0.self_attn.q_proj"].scale == 8 / 2
    assert factors["model.layers.0.self_attn.v_proj"].scale == 8 / 4
    assert factors["model.layers.1.self_attn.v_proj"].scale == 20 / 4


def test_a_pattern_names_whole_parts_of_a_module_not_the_end_of_a_word(tmp_path: Path) -> None:
    folder = write_files(tmp_path, pair(), alpha_pattern={"proj": 80})
    assert read_checkpoint(folder).factors[MODULE].scale == 2.0


def test_equal_bytes_have_equal_digests_and_others_have_not(tmp_path: Path) -> None:
    first = read_checkpoint(write_files(tmp_path / "a", pair())).digest
    again = read_checkpoint(write_files(tmp_path / "b", pair())).digest
    other = read_checkpoint(write_files(tmp_path / "c", pair(), lora_alpha=9)).digest
    assert first == again != other


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused_by_tensor(tmp_path: Path, bad: float) -> None:
    tensors = pair()
    tensors[f"{KEY}.lora_B.weight"][3, 1] = bad
    with pytest.raises(CheckpointError, match=r"q_proj\.lora_B\.weight.*NaN or infinite"):
        read_checkpoint(write_files(tmp_path, tensors))


def test_a_config_that_lies_about_the_rank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"q_proj.*rank 4.*declares 8"):
        read_checkpoint(write_files(tmp_path, pair(), r=8))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_files(tmp_path, pair()) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is not a sound"):
        read_checkpoint(tmp_path)


def test_a_pickle_is_refused_and_not_opened(tmp_path: Path) -> None:
    path = write_files(tmp_path, pair()) / "adapter_model.safetensors"
    path.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"only adapter_model\.bin, a pickle"):
        read_checkpoint(tmp_path)


def test_a_folder_without_weights_or_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json"):
        read_checkpoint(tmp_path)
    (write_files(tmp_path, pair()) / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors"):
        read_checkpoint(tmp_path)


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    tensors = pair()
    del tensors[f"{KEY}.lora_A.weight"]
    with pytest.raises(CheckpointError, match=r"q_proj has no lora_A"):
        read_checkpoint(write_files(tmp_path, tensors))


def test_a_tensor_that_is_no_factor_is_refused_by_name(tmp_path: Path) -> None:
    tensors = pair() | {"base_model.model.lm_head.weight": torch.ones(3, 3)}
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        read_checkpoint(write_files(tmp_path, tensors))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no LoRA tensors"):
        read_checkpoint(write_files(tmp_path, {}))


def test_integers_and_vectors_are_refused(tmp_path: Path) -> None:
    tensors = pair() | {f"{KEY}.lora_A.weight": torch.ones(4, 32, dtype=torch.int8)}
    with pytest.raises(CheckpointError, match=r"torch\.int8.*must be a matrix"):
        read_checkpoint(write_files(tmp_path / "int", tensors))
    tensors = pair() | {f"{KEY}.lora_A.weight": torch.ones(4)}
    with pytest.raises(CheckpointError, match="must be a matrix"):
        read_checkpoint(write_files(tmp_path / "vector", tensors))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"use_dora": True, "lora_bias": True}, "both set"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying"),
        ({"bias": "all"}, "trained biases"),
        ({"bias": "lora_only"}, "trained biases"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"target_parameters": ["experts.w"]}, "target_parameters"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"loftq_config": {"bits": 4}}, "LoftQ"),
        ({"alora_invocation_tokens": [5]}, "aLoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base"),
        ({"init_lora_weights": "olora"}, "changed the base"),
        ({"use_some_new_thing": True}, "use_some_new_thing"),
        ({"peft_type": "IA3"}, "IA3"),
    ],
)
def test_what_a_mixture_cannot_express_is_refused_by_its_name(
    tmp_path: Path, setting: dict[str, object], words: str
) -> None:
    with pytest.raises(UnsupportedAdapterError, match=words):
        read_checkpoint(write_files(tmp_path, pair(), None, **setting))


@pytest.mark.parametrize(
    ("suffix", "shape", "words"),
    [
        ("lora_embedding_A", (4, 32), "has no lora_embedding_B"),
        ("lora_magnitude_vector", (32,), "has a magnitude, but use_dora is not set"),
        ("lora_magnitude_vector.weight", (32,), "has a magnitude, but use_dora is not set"),
        ("lora_B.bias", (32,), "has a bias, but lora_bias is not set"),
        ("lora_B.bias", (32, 1), "must be a vector"),
        ("lora_C.weight", (4, 32), "no part of a LoRA"),
    ],
)
def test_tensors_that_the_config_does_not_declare_are_refused(
    tmp_path: Path, suffix: str, shape: tuple[int, ...], words: str
) -> None:
    tensors = pair() | {f"{KEY}.{suffix}": torch.ones(shape)}
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(write_files(tmp_path, tensors))


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["k_proj"]},
        {"target_modules": r".*\.mlp\..*"},
        {"target_modules": ["q_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]},
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    ],
    ids=["other names", "other pattern", "excluded", "other layers"],
)
def test_a_layer_that_is_no_target_is_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=r"tensors for .*q_proj, which .* not declare"):
        read_checkpoint(write_files(tmp_path, pair(), **settings))


@pytest.mark.parametrize("targets", ["all-linear", None, [], ["q_proj"], [MODULE]])
def test_layers_may_be_declared_in_any_way_or_not_at_all(tmp_path: Path, targets: object) -> None:
    assert read_checkpoint(write_files(tmp_path, pair(), target_modules=targets)).factors


@pytest.mark.parametrize(
    ("setting", "suffix", "words"),
    [
        ("use_dora", "lora_magnitude_vector", "has no magnitude, but use_dora is set"),
        ("lora_bias", "lora_B.bias", "has no bias, but lora_bias is set"),
    ],
)
def test_what_the_config_declares_must_be_there_and_of_the_right_length(
    tmp_path: Path, setting: str, suffix: str, words: str
) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(write_files(tmp_path / "missing", pair(), None, **{setting: True}))
    tensors = pair() | {f"{KEY}.{suffix}": torch.ones(5)}
    with pytest.raises(CheckpointError, match="has 5 values for 32 outputs"):
        read_checkpoint(write_files(tmp_path / "short", tensors, None, **{setting: True}))


def test_dora_on_embeddings_is_refused_by_its_name(tmp_path: Path) -> None:
    tensors = {
        f"{KEY}.lora_embedding_A": torch.ones(4, 97),
        f"{KEY}.lora_embedding_B": torch.ones(32, 4),
        f"{KEY}.lora_magnitude_vector": torch.ones(32),
    }
    with pytest.raises(UnsupportedAdapterError, match="DoRA on embeddings"):
        read_checkpoint(write_files(tmp_path, tensors, None, use_dora=True))


@pytest.mark.parametrize(
    "setting",
    [
        {"r": 0},
        {"r": "8"},
        {"r": True},
        {"lora_alpha": None},
        {"lora_alpha": float("nan")},
        {"rank_pattern": {"q_proj": -1}},
        {"rank_pattern": ["q_proj"]},
        {"alpha_pattern": {"(": 3}},
        {"target_modules": 3},
        {"target_modules": "("},
        {"layers_to_transform": ["first"]},
        {"layers_to_transform": [0], "layers_pattern": 5},
        {"layers_to_transform": [0], "layers_pattern": [1]},
        {"layers_to_transform": [0], "layers_pattern": "("},
        {"layers_to_transform": [0], "layers_pattern": "(?P<index>h)"},
        {"r": None, "rank_pattern": {"r": 4}},
        {"r": 10**400},
        {"rank_pattern": {"(?i)Q_PROJ": 4}},
        {"rank_pattern": {"q{99999999999}": 4}},
        {"lora_alpha": float("nan"), "alpha_pattern": {"lora_alpha": 4}},
        {"lora_alpha": "8", "alpha_pattern": {"lora_alpha": 4}},
        {"lora_alpha": 10**400},
        {"alpha_pattern": {"q_proj": 10**400}},
        {"use_rslora": "false"},
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tmp_path: Path, setting: dict[str, object]
) -> None:
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        read_checkpoint(write_files(tmp_path, pair(), None, **setting))


def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, pair())
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        read_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match="not an object"):
        read_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[" * 200_000)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is nested too deeply"):
        read_checkpoint(tmp_path)


def test_the_head_that_peft_saves_beside_its_adapter_is_kept_apart(tmp_path: Path) -> None:
    tensors = pair() | {"base_model.model.lm_head.base_layer.weight": torch.ones(3, 3)}
    checkpoint = read_checkpoint(write_files(tmp_path, tensors))
    assert set(checkpoint.factors) == {MODULE}
    assert set(checkpoint.base_copies) == {"lm_head.weight"}


@pytest.mark.parametrize("name", ["adapters/\0", "adapters/\ud800"])
def test_a_folder_that_no_system_could_have_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(name)


def test_a_tensor_with_an_endless_name_is_refused(tmp_path: Path) -> None:
    tensors = {f"{'a.' * 200}lora_A.weight": torch.ones(4, 32)}
    with pytest.raises(CheckpointError, match="a name of 413 characters; 256 are allowed"):
        read_checkpoint(write_files(tmp_path, tensors))


def test_factors_of_half_precision_are_kept_as_they_are(tmp_path: Path) -> None:
    tensors = {k: t.to(torch.bfloat16) for k, t in factors_for(llama(), ["q_proj"]).items()}
    checkpoint = read_checkpoint(write_files(tmp_path, tensors))
    assert checkpoint.factors[MODULE].A.dtype == torch.bfloat16
