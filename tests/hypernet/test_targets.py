"""Which layers weights are generated for."""

from __future__ import annotations

import pytest
import torch

from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.base_norms import base_norms
from intrinsic.hypernet.groups import groups_of, in_target_order
from intrinsic.hypernet.targets import TargetShape, targets_of
from tests.tiny import gpt2, llama, shape_of


def test_all_matrices_but_the_head_in_the_models_order() -> None:
    model = llama()
    found = targets_of(model)
    names = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert [target.name for target in found] == [n for n in names if n != "lm_head"]
    for target in found:
        layer = model.get_submodule(target.name)
        assert (target.out_features, target.in_features) == shape_of(layer)
        assert not target.transposed


def test_grouped_queries_make_the_keys_rectangular() -> None:
    (key, *_) = targets_of(llama(), ["k_proj"])
    assert key == TargetShape("model.layers.0.self_attn.k_proj", 32, 16)
    assert (key.kind, key.layer) == ("k_proj", 0)


def test_conv1d_stores_its_weight_transposed() -> None:
    found = {target.name: target for target in targets_of(gpt2())}
    assert found["transformer.h.1.attn.c_attn"] == TargetShape(
        "transformer.h.1.attn.c_attn", 32, 96, transposed=True
    )
    assert "lm_head" not in found


def test_a_named_head_is_a_target_like_any_other() -> None:
    assert [target.name for target in targets_of(llama(), ["lm_head"])] == ["lm_head"]


def test_a_name_that_no_matrix_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="no matrix 'q_porj'"):
        targets_of(llama(), ["q_porj"])


@pytest.mark.parametrize(
    ("name", "layer", "kind"),
    [("layer.3", 3, "3"), ("a.b12.c.7.d", 7, "d"), ("10.proj", 10, "proj"), ("proj", 0, "proj")],
)
def test_layer_and_kind_come_from_the_name(name: str, layer: int, kind: str) -> None:
    target = TargetShape(name, 2, 2)
    assert (target.layer, target.kind) == (layer, kind)


@pytest.mark.parametrize("size", [0, -1, 2.0, True])
def test_a_size_that_is_none_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"x: out_features is {size!r}"):
        TargetShape("x", 2, size)


def test_groups_are_by_shape_and_go_back_in_order() -> None:
    targets = targets_of(llama())
    groups = groups_of(targets)
    assert len({(g.in_features, g.out_features) for g in groups}) == len(groups) == 4
    names = in_target_order(groups, [[targets[p].name for p in group.places] for group in groups])
    assert names == [target.name for target in targets]


def test_base_norms_are_those_of_the_weights() -> None:
    for model in (llama(), gpt2()):
        targets = targets_of(model)
        weights = [model.get_submodule(target.name).weight for target in targets]
        wanted = torch.stack([weight.detach().norm() for weight in weights])
        torch.testing.assert_close(base_norms(model, targets), wanted)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (TargetShape("model.layers.9.q", 32, 32), "the model has no layer model.layers.9.q"),
        (TargetShape("lm_head", 32, 3), "lm_head maps 32 to 97, the hypernetwork generates"),
        (TargetShape("model.norm", 32, 32), "model.norm is LlamaRMSNorm"),
    ],
)
def test_another_model_is_refused(target: TargetShape, words: str) -> None:
    with pytest.raises(HypernetError, match=words):
        base_norms(llama(), [target])
