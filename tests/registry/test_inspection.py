"""What a checkpoint is, found from its files alone; unsound ones are refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from intrinsic.errors import CheckpointError, ConfigError, UnsupportedAdapterError
from intrinsic.lora import read_checkpoint
from intrinsic.registry.inspection import Inspection, digest_of, inspect
from tests.tiny import gpt2, llama, shape_of, write_adapter, write_files

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
KEY = "base_model.model.model.layers.0.self_attn.q_proj"
MODULE = "model.layers.0.self_attn.q_proj"


def pair(rank: int = 4, key: str = KEY) -> dict[str, torch.Tensor]:
    return {
        f"{key}.lora_A.weight": torch.ones(rank, 32),
        f"{key}.lora_B.weight": torch.ones(48, rank),
    }


def sound(folder: Path, **config: object) -> Path:
    return write_files(folder, pair(), **({"target_modules": ["q_proj"]} | config))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_it_says_what_the_files_say(tmp_path: Path) -> None:
    folder = write_adapter(
        tmp_path / "a",
        llama(),
        targets=("q_proj", "v_proj"),
        ranks={"q_proj": 2, "v_proj": 4},
        rank_pattern={"q_proj": 2},
        base_model_name_or_path="org/tiny-llama",
        revision="abc123",
    )
    found = inspect(folder)
    assert found.ranks == (2, 4)
    assert found.kinds == ("lora",)
    assert found.dtype == "float32"
    assert (found.base_model, found.base_revision) == ("org/tiny-llama", "abc123")
    assert found.bytes == sum(len(data) for data in contents(folder).values())
    assert found.modules == {
        f"model.layers.{layer}.self_attn.{name}_proj": (32, out)
        for layer in (0, 1)
        for name, out in (("q", 32), ("v", 16))
    }


def test_modules_are_named_and_shaped_as_the_models_are(tmp_path: Path) -> None:
    model = gpt2()
    found = inspect(write_adapter(tmp_path / "a", model, targets=["c_attn", "c_proj"]))
    assert len(found.modules) == 6
    for name, shape in found.modules.items():
        assert shape == shape_of(model.get_submodule(name))[::-1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_float_is_named_and_checked(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in pair().items()}
    assert inspect(write_files(tmp_path / "a", tensors)).dtype == str(dtype).removeprefix("torch.")
    tensors[f"{KEY}.lora_B.weight"][47, 3] = float("nan")
    with pytest.raises(CheckpointError, match=r"q_proj\.lora_B\.weight.*holds NaN or infinite"):
        inspect(write_files(tmp_path / "b", tensors))


def test_dtypes_that_are_mixed_are_both_named(tmp_path: Path) -> None:
    tensors = pair() | {f"{KEY}.lora_A.weight": torch.ones(4, 32, dtype=torch.float16)}
    assert inspect(write_files(tmp_path / "a", tensors)).dtype == "float16, float32"


def test_kinds_are_those_of_the_factors(tmp_path: Path) -> None:
    dora = pair() | {f"{KEY}.lora_magnitude_vector": torch.ones(48)}
    assert inspect(write_files(tmp_path / "a", dora, use_dora=True)).kinds == ("lora", "dora")
    bias = pair() | {f"{KEY}.lora_B.bias": torch.ones(48)}
    assert inspect(write_files(tmp_path / "b", bias, lora_bias=True)).kinds == ("lora", "lora_bias")
    embedding = {
        "base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 97),
        "base_model.model.model.embed_tokens.lora_embedding_B": torch.ones(32, 4),
    }
    found = inspect(write_files(tmp_path / "c", embedding, target_modules=["embed_tokens"]))
    assert found.kinds == ("embedding",)
    assert found.modules == {"model.embed_tokens": (97, 32)}


def test_the_digest_is_of_config_and_weights_and_of_nothing_else(tmp_path: Path) -> None:
    folder = sound(tmp_path / "a")
    found = inspect(folder)
    data = contents(folder)
    assert found.digest == hashlib.sha256(data[CONFIG] + data[WEIGHTS]).hexdigest()
    assert found.digest == digest_of(folder) == digest_of(str(folder))
    assert found.digest == read_checkpoint(folder).digest
    (folder / "card.toml").write_text('name = "other"\n')
    (folder / "README.md").write_text("text")
    assert digest_of(folder) == inspect(folder).digest == found.digest
    assert digest_of(sound(tmp_path / "b")) == found.digest
    assert digest_of(sound(tmp_path / "c", lora_alpha=9)) != found.digest
    weights = folder / WEIGHTS
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert digest_of(folder) != found.digest


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_digest_needs_two_plain_files(tmp_path: Path, name: str) -> None:
    path = sound(tmp_path) / name
    path.unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        digest_of(tmp_path)
    path.mkdir()
    with pytest.raises(CheckpointError, match=f"{name} is no plain file"):
        digest_of(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match=f"{name} is no plain file"):
        digest_of(tmp_path)


def _undeclared(folder: Path) -> None:
    write_files(folder, pair() | pair(4, KEY.replace("q_", "k_")), target_modules=["q_proj"])


def _wrong_rank(folder: Path) -> None:
    write_files(folder, pair(3), target_modules=["q_proj"])


def _wrong_rank_by_pattern(folder: Path) -> None:
    sound(folder, rank_pattern={"layers.0.self_attn.q_proj": 2})


def _another_layer(folder: Path) -> None:
    sound(folder, layers_to_transform=[1], layers_pattern="layers")


def _infinite(folder: Path) -> None:
    tensors = pair()
    tensors[f"{KEY}.lora_A.weight"][0, 0] = float("inf")
    write_files(folder, tensors)


def _truncated(folder: Path) -> None:
    path = sound(folder) / WEIGHTS
    path.write_bytes(path.read_bytes()[:-64])


def _empty_weights(folder: Path) -> None:
    (sound(folder) / WEIGHTS).write_bytes(b"")


def _empty_config(folder: Path) -> None:
    (sound(folder) / CONFIG).write_bytes(b"")


def _directory_of_weights(folder: Path) -> None:
    path = sound(folder) / WEIGHTS
    path.unlink()
    path.mkdir()


def _pipe_of_config(folder: Path) -> None:
    path = sound(folder) / CONFIG
    path.unlink()
    os.mkfifo(path)


def _pipe_of_weights(folder: Path) -> None:
    path = sound(folder) / WEIGHTS
    path.unlink()
    os.mkfifo(path)


def _device_of_weights(folder: Path) -> None:
    path = sound(folder) / WEIGHTS
    path.unlink()
    path.symlink_to("/dev/zero")


def _no_folder(folder: Path) -> None:
    folder.rmdir()


def _revision_of_numbers(folder: Path) -> None:
    sound(folder, revision=[1])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_undeclared, r"has tensors for model\.layers\.0\.self_attn\.k_proj, which.*not declare"),
        (_another_layer, r"has tensors for model\.layers\.0\.self_attn\.q_proj, which.*not decl"),
        (_wrong_rank, r"lora_A\.weight' has rank 3.*declares 4"),
        (_wrong_rank_by_pattern, r"has rank 4.*declares 2"),
        (_infinite, r"lora_A\.weight' holds NaN or infinite values"),
        (_truncated, r"safetensors is not a sound safetensors file"),
        (_empty_weights, r"safetensors is not a sound safetensors file"),
        (_empty_config, r"adapter_config\.json cannot be read as JSON"),
        (_directory_of_weights, r"safetensors cannot be read"),
        (_pipe_of_config, r"adapter_config\.json is a pipe or a device"),
        (_pipe_of_weights, r"safetensors is a pipe or a device"),
        (_device_of_weights, r"safetensors is a pipe or a device"),
        (_no_folder, r"has no adapter_config\.json"),
        (_revision_of_numbers, r"revision is \[1\]; it must be the name"),
    ],
)
def test_what_is_not_sound_is_refused_in_one_sentence(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    spoil(folder)
    before = contents(folder) if folder.exists() else None
    with pytest.raises(CheckpointError, match=why) as caught:
        inspect(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert before == (contents(folder) if folder.exists() else None)


def test_kinds_that_cannot_be_applied_exactly_are_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedAdapterError, match="peft_type is 'LOHA'"):
        inspect(sound(tmp_path, peft_type="LOHA"))


@pytest.mark.parametrize("targets", [None, "all-linear"])
def test_targets_that_only_peft_knows_are_not_held_against_it(
    tmp_path: Path, targets: str | None
) -> None:
    assert list(inspect(sound(tmp_path, target_modules=targets)).modules) == [MODULE]


def test_targets_may_be_a_pattern(tmp_path: Path) -> None:
    assert inspect(sound(tmp_path, target_modules=r".*layers\.0\..*_proj")).modules
    with pytest.raises(CheckpointError, match="does not declare"):
        inspect(sound(tmp_path, target_modules=r".*layers\.1\..*_proj"))


def test_as_json_is_plain_and_comes_back_equal(tmp_path: Path) -> None:
    found = inspect(sound(tmp_path, base_model_name_or_path="org/a", revision="main"))
    assert Inspection.from_json(json.loads(json.dumps(found.as_json()))) == found


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"digest": "", "bytes": 1, "ranks": 3, "modules": {}, "kinds": [], "dtype": ""},
        {"digest": "", "bytes": 1, "ranks": [], "modules": {"a": [1]}, "kinds": [], "dtype": ""},
        {"digest": "", "bytes": 1, "ranks": [], "modules": [], "kinds": [], "dtype": ""},
        {"ranks": [], "modules": {}, "kinds": [], "more": 1},
    ],
)
def test_other_json_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="is no inspection"):
        Inspection.from_json(values)


def test_the_registry_and_a_digest_need_neither_torch_nor_scipy(tmp_path: Path) -> None:
    code = (
        "import sys, intrinsic.registry\n"
        "from intrinsic.registry import comparison, compatibility, inspection, single_file\n"
        f"inspection.digest_of({str(sound(tmp_path))!r})\n"
        "print([m for m in ('torch', 'scipy', 'sqlalchemy', 'numpy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
