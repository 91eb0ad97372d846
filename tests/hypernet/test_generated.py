"""A generated adapter is an adapter like any other."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from intrinsic.card import AdapterCard
from intrinsic.engine import LoraEngine
from intrinsic.engine.fingerprint import fingerprint
from intrinsic.errors import AdapterExistsError, HypernetError
from intrinsic.hypernet.base_norms import base_norms
from intrinsic.hypernet.generated import Generated, as_checkpoint, export
from intrinsic.hypernet.generator import WeightGenerator
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.targets import targets_of
from intrinsic.lora import CoreFactors, read_checkpoint
from intrinsic.mixture import Mixture
from tests.hypernet.nets import DIM, queries, shaken
from tests.tiny import gpt2, llama, tokens

MODELS = {"llama": llama, "gpt2": gpt2}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
every_kind = pytest.mark.parametrize("architecture", ["core", "shared_heads"])


def network_for(model: Any, architecture: str = "core") -> HyperNetwork:
    torch.manual_seed(0)
    return shaken(HyperNetwork(targets_of(model), DIM, 3, 6.0, architecture=architecture))


def generator_for(model: Any, architecture: str = "core") -> WeightGenerator:
    network = network_for(model, architecture)
    return WeightGenerator(network, base_norms(model, network.targets))


def under(engine: LoraEngine, weights: dict[str, float]) -> torch.Tensor:
    with torch.inference_mode(), engine.activate(Mixture.of(weights)):
        logits: torch.Tensor = engine.model(tokens()).logits
        return logits


@every_kind
@every_model
def test_under_the_engine_the_weights_are_w_plus_scaled_ba(make: Any, architecture: str) -> None:
    model, changed = make(), make()
    network = network_for(model, architecture)
    generated = generator_for(model, architecture).generate(queries()[0])
    with torch.no_grad():
        for target, (A, B) in zip(network.targets, network(queries()[0]), strict=True):
            change = 2.0 * (B @ A)  # alpha 6 over rank 3
            weight = changed.get_submodule(target.name).weight
            weight += change.T if target.transposed else change
    before = fingerprint(model)
    engine = LoraEngine(model)
    engine.load(as_checkpoint(generated), "instant")
    with torch.inference_mode():
        wanted, bare = changed(tokens()).logits, make()(tokens()).logits
    torch.testing.assert_close(under(engine, {"instant": 1.0}), wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(wanted, bare, atol=1e-2)
    engine.close()
    assert fingerprint(model) == before
    with torch.inference_mode():
        assert torch.equal(model(tokens()).logits, bare)


@pytest.mark.parametrize(
    "architecture", ["core", "core_diagonal", "per_rank", "shared_heads", "heads"]
)
@every_model
def test_peft_loads_what_was_exported_with_the_same_logits(
    make: Any, architecture: str, tmp_path: Path
) -> None:
    generated = generator_for(make(), architecture).generate(queries()[0])
    read = export(generated, tmp_path / "expert", base_model="tiny")
    engine = LoraEngine(make())
    engine.load(as_checkpoint(generated), "instant")
    by_peft = PeftModel.from_pretrained(make(), str(tmp_path / "expert"))
    with torch.inference_mode():
        logits = by_peft(tokens()).logits
    assert (logits - under(engine, {"instant": 1.0})).abs().max() < 1e-5
    assert read.config.base_model == "tiny"
    assert (read.config.r, read.config.alpha) == (3, 6.0)


def test_any_model_with_matrices_can_be_generated_for(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4))
    generated = generator_for(model).generate(queries()[0])
    export(generated, tmp_path / "a", task_type=None)
    x = torch.ones(1, 8)
    bare = model(x)
    by_peft = PeftModel.from_pretrained(copy.deepcopy(model), str(tmp_path / "a"))
    engine = LoraEngine(model)
    engine.load(as_checkpoint(generated), "instant")
    with torch.inference_mode(), engine.activate(Mixture.of({"instant": 1.0})):
        torch.testing.assert_close(by_peft(x), model(x), atol=1e-6, rtol=1e-5)
        assert not torch.allclose(model(x), bare)


def test_the_exported_tensors_are_those_in_memory(tmp_path: Path) -> None:
    generated = generator_for(llama()).generate(queries()[0])
    export(generated, tmp_path / "expert")
    read = read_checkpoint(tmp_path / "expert")
    held = as_checkpoint(generated)
    assert list(read.config.target_modules) == list(held.config.target_modules)
    assert read.factors.keys() == held.factors.keys()
    for module, factors in held.factors.items():
        assert torch.equal(read.factors[module].A, factors.A)
        assert torch.equal(read.factors[module].B, factors.B)
        assert read.factors[module].scale == factors.scale == 2.0


def test_an_export_replaces_an_adapter_only_when_told(tmp_path: Path) -> None:
    first, second = generator_for(llama()).generate_batch(queries(2))
    export(first, tmp_path / "expert", card=AdapterCard("expert", description="reverses words"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "expert").iterdir()}
    assert b"reverses words" in before["card.toml"]
    with pytest.raises(AdapterExistsError, match="exists already"):
        export(second, tmp_path / "expert")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "expert").iterdir()}
    export(second, tmp_path / "expert", replace=True)
    after = (tmp_path / "expert" / "adapter_model.safetensors").read_bytes()
    assert after != before["adapter_model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["expert"]


@every_kind
def test_a_batch_generates_what_single_queries_do(architecture: str) -> None:
    generator = generator_for(llama(), architecture)
    for query, many in zip(queries(), generator.generate_batch(queries()), strict=True):
        one = generator.generate(query)
        assert one.key == many.key
        assert one.bytes_used == many.bytes_used
        assert one.relative_norm == pytest.approx(many.relative_norm, rel=1e-4)
        for module, factors in one.factors.items():
            torch.testing.assert_close(factors.A, many.factors[module].A)
            torch.testing.assert_close(factors.B, many.factors[module].B)


def test_one_of_a_batch_keeps_no_memory_of_the_others() -> None:
    for generated in generator_for(llama(), "shared_heads").generate_batch(queries()):
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for factors in generated.factors.values()
            for tensor in (factors.A, factors.B)
        }
        assert sum(storages.values()) == generated.bytes_used


def test_bytes_are_those_that_the_adapter_has_for_itself() -> None:
    core, heads = (
        generator_for(llama(), kind).generate(queries()[0]) for kind in ("core", "shared_heads")
    )
    found = core.factors.values()
    assert all(isinstance(factors, CoreFactors) for factors in found)
    assert core.bytes_used == len(found) * 4 * core.rank**2
    assert heads.bytes_used == sum(f.A.nbytes + f.B.nbytes for f in heads.factors.values())
    assert as_checkpoint(core).bytes_used == core.bytes_used + heads.bytes_used
    assert as_checkpoint(core).content.size == heads.bytes_used


@pytest.mark.parametrize("kind", ["core", "core_diagonal"])
def test_cores_give_what_the_network_gives(kind: str) -> None:
    generator = generator_for(llama(), kind)
    asked = queries(3)
    found = generator.generate_batch(asked)
    with torch.no_grad():
        expected = generator.network(asked)
    for target, (A, B) in zip(generator.network.targets, expected, strict=True):
        for row, one in enumerate(found):
            assert torch.equal(one.factors[target.name].A, A[row])
            assert torch.allclose(one.factors[target.name].B, B[row], atol=1e-6)
    frames = {one.factors[target.name].A.data_ptr() for one in found}
    assert len(frames) == 1


def test_frames_without_cores_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = generator_for(llama(), "shared_heads")
    frames = generator_for(llama()).network.body.frames()
    assert generator.network.body.frames() is None
    monkeypatch.setattr(generator, "_frames", frames)
    with pytest.raises(HypernetError, match="define cores_of beside frames"):
        generator.generate(queries()[0])


def test_training_on_does_not_change_what_was_generated() -> None:
    model = llama()
    network = network_for(model)
    generator = WeightGenerator(network, base_norms(model, network.targets))
    before = generator.generate(queries()[0])
    kept = {module: factors.A.clone() for module, factors in before.factors.items()}
    shaken(network, seed=9)
    after = generator.generate(queries()[0])
    assert before.key == after.key
    for module, A in kept.items():
        assert torch.equal(before.factors[module].A, A)
        assert torch.equal(after.factors[module].A, A)
    assert next(network.parameters()).requires_grad


def test_the_relative_norm_is_the_largest_of_all_targets() -> None:
    model = llama()
    generated = generator_for(model).generate(queries()[0])
    found = [
        float(2.0 * (f.B @ f.A).norm() / model.get_submodule(module).weight.detach().norm())
        for module, f in generated.factors.items()
    ]
    assert generated.relative_norm == pytest.approx(max(found), rel=1e-4)


def test_weights_of_zeros_are_changed_by_infinitely_much() -> None:
    model = llama()
    network = network_for(model)
    norms = base_norms(model, network.targets)
    norms[0] = 0.0
    assert WeightGenerator(network, norms).generate(queries()[0]).relative_norm == float("inf")
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    assert WeightGenerator(network, norms).generate(queries()[0]).relative_norm == 0.0


def test_keys_and_digests_tell_contents_apart() -> None:
    one, other = generator_for(llama()).generate_batch(queries(2))
    elsewhere = generator_for(llama(), "shared_heads").generate(queries()[0])
    assert one.digest == hashlib.sha256(queries()[0].numpy().tobytes()).hexdigest()
    assert one.digest == elsewhere.digest
    assert len({one.key, other.key, elsewhere.key}) == 3
    digests = {as_checkpoint(found).digest for found in (one, other, elsewhere)}
    assert len(digests) == 3
    assert as_checkpoint(one).digest in digests
    assert as_checkpoint(one, base_model="another").digest not in digests
    whole = as_checkpoint(elsewhere)
    assert as_checkpoint(one).content.size == whole.content.size == whole.bytes_used
    assert as_checkpoint(one).path == Path(f"hypernet:{one.key}")


def test_weights_that_are_not_finite_are_not_given_out() -> None:
    model = llama()
    network = network_for(model)
    with torch.no_grad():
        next(p for name, p in network.named_parameters() if "cores.bias" in name)[0] = 1e38
    generator = WeightGenerator(network, base_norms(model, network.targets))
    with pytest.raises(HypernetError, match="weights that are not finite"):
        generator.generate(queries()[0])


def test_norms_of_another_model_are_refused() -> None:
    with pytest.raises(HypernetError, match=r"\(3,\) base norms were given for 14 targets"):
        WeightGenerator(network_for(llama()), torch.ones(3))


def test_one_query_is_one_vector() -> None:
    with pytest.raises(HypernetError, match="or several to generate_batch"):
        generator_for(llama()).generate(queries())


def test_mixed_with_another_and_per_row_as_any_adapter() -> None:
    model = llama()
    one, other = generator_for(model).generate_batch(queries(2))
    engine = LoraEngine(model)
    engine.load(as_checkpoint(one), "one")
    engine.load(as_checkpoint(other), "other")
    first, second = under(engine, {"one": 1.0}), under(engine, {"other": 1.0})
    rows = [Mixture.of({"one": 1.0}), Mixture.of({"other": 1.0})]
    with torch.inference_mode(), engine.activate(rows):
        both = model(tokens()).logits
    torch.testing.assert_close(both, torch.stack([first[0], second[1]]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first, second, atol=1e-3)


def test_generated_keeps_rank_and_alpha() -> None:
    generated: Generated = generator_for(llama()).generate(queries()[0])
    assert (generated.rank, generated.alpha) == (3, 6.0)
