"""What settings name, looked at without weights: every fault, and none that is not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest
import torch
import transformers

from intrinsic.config.checking import Check, Checked
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.inspection import inspect, inspect_header
from intrinsic.registry.registering import Newcomer
from tests.bus.backends import both_backends
from tests.config.places import Places
from tests.tiny import gpt2, llama, tokenizer, write_adapter


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    llama().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def look(places: Places, flags: Mapping[str, object]) -> Checked:
    return anyio.run(Check(places.load(flags)).run)


def messages(found: Checked) -> str:
    return "\n".join(fault.sentence for fault in found.faults)


def test_what_is_bundled_is_sound(places: Places) -> None:
    found = look(places, {})
    assert found.faults == []
    assert any("4 adapters" in line for line in found.looked_at)


def test_a_sound_model_with_its_adapters_has_no_fault(places: Places, model: Path) -> None:
    write_adapter(places.here / "adapters" / "sql", llama())
    found = look(places, {"model": str(model), "adapters": places.here / "adapters"})
    assert (found.faults, found.notes) == ([], [])
    assert found.looked_at[1:] == [f"model {model}", f"1 adapters of {places.here / 'adapters'}"]


def test_every_fault_is_found_at_once(places: Places, model: Path) -> None:
    folder = places.here / "adapters"
    for name in ("cut", "lies", "other", "sound"):
        write_adapter(folder / name, gpt2() if name == "other" else llama(),
                      targets=("c_attn",) if name == "other" else ("q_proj",))  # fmt: skip
    weights = folder / "cut" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    config = json.loads((folder / "lies" / "adapter_config.json").read_text())
    (folder / "lies" / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    (places.here / "broken.py").write_text("def (")
    found = look(
        places,
        {
            "model": str(model),
            "adapters": folder,
            "plugins": (places.here, places.here / "none"),
            "routing.router": "hybird",
            "routing.calibration": places.here / "none.json",
            "embedder": "nobody",
            "encoder.model": "/nowhere",
            "embedding.model": str(places.here),
        },
    )
    told = messages(found)
    for words in (
        "adapters: " + str(weights) + " is not a sound safetensors file",
        "but adapter_config.json declares 8",
        "adapter 'other@1' is not for the model: it does not fit",
        "plugins: ",
        "broken.py",
        "routing.router: unknown router 'hybird'",
        "routing.calibration: ",
        "embedder: unknown embedder 'nobody'",
        "encoder.model: /nowhere does not exist",
        "has neither config.json nor modules.json",
    ):
        assert words in told
    assert len(found.faults) == 10
    assert "sound@1" not in told


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("config.json", "cannot load the model"),
        ("model.safetensors", "it has no weights"),
        ("tokenizer.json", "cannot load the model"),
    ],
)
def test_a_model_that_lacks_a_file_is_a_fault(
    places: Places, model: Path, broken: str, words: str
) -> None:
    (model / broken).unlink()
    found = look(places, {"model": str(model), "adapters": model})
    assert [fault.path for fault in found.faults] == ["model"]
    assert words in messages(found)


@pytest.mark.parametrize("wrong", [{"hidden_size": "x"}, {"num_attention_heads": 0}])
def test_a_config_of_wrong_values_hides_no_other_fault(
    places: Places, model: Path, wrong: dict[str, object]
) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | wrong))
    found = look(places, {"model": str(model), "adapters": "/nowhere"})
    assert [fault.path for fault in found.faults] == ["model", "adapters"]
    assert "cannot load the model" in messages(found)


@pytest.mark.parametrize("file", ["config.json", "modules.json"])
def test_a_config_of_an_encoder_that_is_none_is_a_fault(places: Places, file: str) -> None:
    (places.here / file).write_text("{")
    found = look(places, {"embedding.model": str(places.here)})
    assert [fault.path for fault in found.faults] == ["embedding.model"]
    assert f"the config of encoder {places.here} cannot be read" in messages(found)


def test_a_device_that_is_none_or_not_here_is_a_fault(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = {"transformers.device": "nonsense", "encoder.device": "cuda:1"}
    told = messages(look(places, said))
    assert "transformers.device: 'nonsense' is no device; name one as cpu, cuda or cuda:1" in told
    assert "encoder.device: this machine has no device 'cuda:1'; choose cpu" in told
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert "no device 'cuda:1'" not in messages(look(places, said))


def test_weights_are_not_loaded(
    places: Places, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    write_adapter(places.here / "adapters" / "sql", llama())
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr("intrinsic.lora.files._read", refuse)
    flags = {"model": str(model), "adapters": str(places.here / "adapters")}
    assert look(places, flags).faults == []


def test_a_name_of_the_hub_that_is_not_here_is_a_note(places: Places) -> None:
    found = look(places, {"model": "nobody/nothing", "embedding.model": "nobody/nothing"})
    assert found.faults == []
    assert sum("not on this machine" in note for note in found.notes) == 2


@both_backends
async def test_what_a_registry_offers_is_looked_at(places: Places, model: Path) -> None:
    file = places.here / "adapters.db"
    async with AdapterCatalog(file) as catalog:
        for name, made in (("mine", llama()), ("cut", llama()), ("other", gpt2())):
            folder = places.here / name
            targets = ("c_attn",) if name == "other" else ("q_proj",)
            write_adapter(folder, made, targets=targets, base_model_name_or_path=str(model))
            await catalog.register(Newcomer(folder))
    weights = places.here / "cut" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    found = await Check(places.load({"model": str(model), "registry": str(file)})).run()
    assert {fault.path for fault in found.faults} == {"registry"}
    told = messages(found)
    assert str(weights) in told
    assert "'other@1' is not for the model" in told
    assert "'mine@1'" not in told
    assert len(found.faults) == 2


def test_onnx_without_its_extra_says_what_to_install(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intrinsic.routing.onnx_model.onnx_installed", lambda: False)
    found = look(places, {"encoder.runtime": "onnx"})
    assert "pip install 'intrinsic-lora[onnx]'" in messages(found)
    both = look(places, {"encoder.runtime": "onnx", "encoder.device": "cuda"})
    assert "encoder.model: runtime 'onnx' is for the bundled" in messages(both)


def test_the_adapter_of_the_embeddings_must_be_for_the_encoder(
    places: Places, model: Path, tmp_path: Path
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    write_adapter(mine, llama().model)
    write_adapter(other, gpt2(), targets=("c_attn",))
    flags = {"embedding.model": str(model), "embedding.lora_adapter_path": str(mine)}
    assert look(places, flags).faults == []
    found = look(places, flags | {"embedding.lora_adapter_path": str(other)})
    (fault,) = found.faults
    assert fault.path == "embedding.lora_adapter_path"
    assert "is not for the encoder: it does not fit 'model'" in fault.message
    bundled = look(places, {"embedding.lora_adapter_path": str(mine)})
    assert "is not for the encoder" in messages(bundled)


def test_a_header_tells_what_the_whole_file_tells(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "sql", llama(dtype=torch.float32), targets=("q_proj",))
    whole, header = inspect(folder), inspect_header(folder)
    assert (header.digest, header.bytes) == ("", 0)
    assert header.as_json() | {"digest": whole.digest, "bytes": whole.bytes} == whole.as_json()
