"""Weights on a model that is trained through: each row gets its own query's, gradients too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from intrinsic.engine.fingerprint import fingerprint
from intrinsic.errors import HypernetError
from intrinsic.hypernet.apply import applied
from intrinsic.hypernet.targets import targets_of
from tests.tiny import gpt2, llama, tokens

SCALE = 1.5


def pairs_for(model: Any, queries: int, *, shared: bool = False) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    found = []
    for target in targets_of(model):
        A = torch.randn(1 if shared else queries, 3, target.in_features, generator=generator)
        B = torch.randn(queries, target.out_features, 3, generator=generator)
        found.append(((A * 0.3).requires_grad_(), (B * 0.3).requires_grad_()))
    return found


def slow_reference(model: Any, pairs: list[tuple[Tensor, Tensor]], ids: Tensor, query: int) -> Any:
    """Logits of one row with `W + s B A` in place of W."""
    changed = {}
    for target, (A, B) in zip(targets_of(model), pairs, strict=True):
        weight = model.get_submodule(target.name).weight
        update = SCALE * B[query] @ A[query if len(A) > 1 else 0]
        is_conv = "c_" in target.name
        changed[f"{target.name}.weight"] = weight + (update.T if is_conv else update)
    return torch.func.functional_call(model, changed, (ids[None],)).logits[0]


def names(model: Any) -> list[str]:
    return [target.name for target in targets_of(model)]


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("shared", [False, True])
def test_rows_that_lie_query_by_query(make: Any, shared: bool) -> None:
    model, ids = make(), tokens(6)
    pairs = pairs_for(model, 3, shared=shared)
    with applied(model, names(model), pairs, SCALE):
        found = model(ids).logits
    for row in range(6):
        torch.testing.assert_close(
            found[row], slow_reference(model, pairs, ids[row], row // 2), rtol=1e-4, atol=1e-4
        )


def test_rows_in_any_order_by_an_index() -> None:
    model, ids, index = llama(), tokens(5), torch.tensor([2, 0, 0, 1, 2])
    pairs = pairs_for(model, 3)
    with applied(model, names(model), pairs, SCALE, index):
        found = model(ids).logits
    for row, query in enumerate(index.tolist()):
        torch.testing.assert_close(
            found[row], slow_reference(model, pairs, ids[row], query), rtol=1e-4, atol=1e-4
        )


def test_gradients_are_those_of_the_changed_weights() -> None:
    model, ids = llama().requires_grad_(False), tokens(4)
    pairs = pairs_for(model, 2)
    flat = [tensor for pair in pairs for tensor in pair]
    with applied(model, names(model), pairs, SCALE):
        found = torch.autograd.grad(model(ids).logits.logsumexp(-1).sum(), flat)
    rows = [slow_reference(model, pairs, ids[row], row // 2) for row in range(4)]
    expected = torch.autograd.grad(torch.stack(rows).logsumexp(-1).sum(), flat)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_the_model_is_what_it_was_however_the_block_ends() -> None:
    model, ids = llama(), tokens(2)
    before, bare = fingerprint(model), model(ids).logits
    changed = []

    def fail() -> None:
        with applied(model, names(model), pairs_for(model, 2), SCALE):
            changed.append(model(ids).logits)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not torch.equal(changed[0], bare)
    assert fingerprint(model) == before
    assert torch.equal(model(ids).logits, bare)


@pytest.mark.parametrize("index", [None, torch.tensor([0, 1])])
def test_rows_that_cannot_be_shared_out(index: Tensor | None) -> None:
    model = llama()
    with (
        applied(model, names(model), pairs_for(model, 2), SCALE, index),
        pytest.raises(HypernetError, match="a batch of 3 rows cannot be shared out to 2"),
    ):
        model(tokens(3))


def test_as_many_pairs_as_layers() -> None:
    model = llama()
    with (
        pytest.raises(HypernetError, match="13 pairs of factors were given for 14 layers"),
        applied(model, names(model), pairs_for(model, 2)[:-1], SCALE),
    ):
        pass
