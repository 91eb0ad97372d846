"""What every architecture promises, and what each promises of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from intrinsic.errors import ConfigError
from intrinsic.hypernet.architecture import ARCHITECTURES, Architecture, register_architecture
from intrinsic.hypernet.estimate import estimate
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.targets import TargetShape
from tests.hypernet.nets import DIM, GROUPED_QUERY, deltas, fresh, queries, shaken, targets_for

SHIPPED = ["core", "core_diagonal", "heads", "per_rank", "shared_heads", "square"]
every = pytest.mark.parametrize("architecture", SHIPPED)


def loss(network: HyperNetwork, embeddings: torch.Tensor) -> torch.Tensor:
    """How far each ΔW is from ones, or from minus ones for every other query."""
    signs = torch.ones(len(embeddings))
    signs[1::2] = -1
    wanted = signs[:, None, None]
    return torch.stack([((d - wanted) ** 2).mean() for d in deltas(network(embeddings))]).sum()


def train(network: HyperNetwork, steps: int) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(steps):
        loss(network, queries()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def test_the_contract_is_tested_for_all_that_are_shipped() -> None:
    ours = [n for n, kind in ARCHITECTURES.items() if kind.__module__.startswith("intrinsic.")]
    assert sorted(ours) == SHIPPED


@every
def test_shapes_are_those_of_the_targets_in_their_order(architecture: str) -> None:
    network = shaken(fresh(architecture))
    one, many = network(queries()[0]), network(queries())
    for target, (A, B), (all_A, all_B) in zip(network.targets, one, many, strict=True):
        assert (A.shape, B.shape) == ((3, target.in_features), (target.out_features, 3))
        assert all_A.shape == (3, 3, target.in_features)
        assert all_B.shape == (3, target.out_features, 3)


@every
def test_the_change_is_exactly_zero_at_the_start(architecture: str) -> None:
    for change in deltas(fresh(architecture)(queries())):
        assert not change.any()


@every
def test_after_a_step_gradients_reach_every_parameter(architecture: str) -> None:
    network = fresh(architecture)
    train(network, 1)
    loss(network, queries()).backward()  # type: ignore[no-untyped-call]
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@every
def test_it_learns_what_differs_from_query_to_query(architecture: str) -> None:
    network = fresh(architecture)
    before = float(loss(network, queries()).detach())
    train(network, 60)
    assert float(loss(network, queries()).detach()) < 0.1 * before
    for change in deltas(network(queries())):
        assert torch.cosine_similarity(change[0].flatten(), change[1].flatten(), dim=0) < 0


@every
def test_a_batch_gives_what_single_queries_give(architecture: str) -> None:
    network = shaken(fresh(architecture))
    many = network(queries())
    for row, query in enumerate(queries()):
        for (A, B), (all_A, all_B) in zip(network(query), many, strict=True):
            torch.testing.assert_close(all_A[row], A)
            torch.testing.assert_close(all_B[row], B)


@every
def test_what_it_takes_is_known_before_it_is_built(architecture: str) -> None:
    network = fresh(architecture)
    known = estimate(targets_for(architecture), DIM, 3, architecture)
    assert known.parameters == sum(p.numel() for p in network.parameters())
    assert known.bytes_of_weights == sum(p.nbytes for p in network.parameters())
    assert known.payload_bytes == network.payload_bytes
    assert known.factor_bytes == sum(A.nbytes + B.nbytes for A, B in network(queries()[0]))
    assert known.multiply_adds > 0


@every
def test_the_payload_is_all_that_differs_and_as_large_as_stated(architecture: str) -> None:
    network = shaken(fresh(architecture))
    payload = network.payload(queries())
    assert sum(part.nbytes for part in payload) == 3 * network.payload_bytes
    for (A, B), (all_A, all_B) in zip(network.expand(payload), network(queries()), strict=True):
        assert torch.equal(A.expand_as(all_A), all_A)
        assert torch.equal(B, all_B)


@every
def test_norms_are_those_of_the_changes(architecture: str) -> None:
    network = shaken(fresh(architecture))
    with torch.no_grad():
        found = network.body.norms(network.payload(queries()))
        plain = Architecture.norms(network.body, network.payload(queries()))
    wanted = torch.stack([d.flatten(1).norm(dim=1) for d in deltas(network(queries()))], 1)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(plain, wanted)


@pytest.mark.parametrize("architecture", ["core", "core_diagonal"])
def test_norms_follow_what_was_learned_since(architecture: str) -> None:
    network = shaken(fresh(architecture))
    with torch.no_grad():
        network.body.norms(network.payload(queries()))
        shaken(network, seed=5)
        found = network.body.norms(network.payload(queries()))
    wanted = torch.stack([d.flatten(1).norm(dim=1) for d in deltas(network(queries()))], 1)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("architecture", ["core", "core_diagonal"])
def test_a_core_shares_its_a_with_all_queries(architecture: str) -> None:
    network = shaken(fresh(architecture))
    for A, _ in network.expand(network.payload(queries())):
        assert len(A) == 1


def test_a_core_alone_is_between_the_learned_factors() -> None:
    network = shaken(fresh("core"))
    (cores,) = network.payload(queries())
    body: Any = network.body
    by_shape = {(16, 16): 0, (16, 8): 1, (16, 24): 2, (24, 16): 3}
    seen = dict.fromkeys(by_shape.values(), 0)
    places = {group: sum(len(body.A[g]) for g in range(group)) for group in range(4)}
    for target, (A, B) in zip(network.targets, network(queries()), strict=True):
        group = by_shape[target.in_features, target.out_features]
        member = seen[group]
        seen[group] += 1
        assert torch.equal(A[0], body.A[group][member])
        core = cores[:, places[group] + member]
        torch.testing.assert_close(B, body.B[group][member] @ core)


@pytest.mark.parametrize("architecture", ["shared_heads", "per_rank"])
def test_shared_heads_grow_with_depth_by_an_embedding_alone(architecture: str) -> None:
    deeper = (*GROUPED_QUERY, TargetShape("model.layers.2.self_attn.q_proj", 16, 16))
    hidden = 32
    two, three = (
        estimate(targets, DIM, 3, architecture, hidden_dim=hidden).parameters
        for targets in (GROUPED_QUERY, deeper)
    )
    assert three - two == hidden


def test_a_kind_in_two_shapes_has_two_heads() -> None:
    targets = (TargetShape("layers.0.proj", 8, 8), TargetShape("layers.1.proj", 8, 4))
    network = shaken(HyperNetwork(targets, DIM, 2, architecture="shared_heads"))
    assert [tuple(B.shape) for _, B in network(queries()[0])] == [(8, 2), (4, 2)]


def test_square_refuses_what_is_not() -> None:
    with pytest.raises(ConfigError, match=r"k_proj maps 16 to 8.*choose 'heads' or 'core'"):
        HyperNetwork(GROUPED_QUERY, DIM, architecture="square")


def test_an_unknown_architecture_is_named_with_its_neighbour() -> None:
    with pytest.raises(ConfigError, match=r"'cores' \(did you mean 'core'\?\); known: core, "):
        HyperNetwork(GROUPED_QUERY, DIM, architecture="cores")


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="'core' has no option 'width'; it has hidden_dim"):
        HyperNetwork(GROUPED_QUERY, DIM, width=3)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "64"])
@every
def test_a_width_that_is_none_is_refused(architecture: str, value: object) -> None:
    option = "bottleneck_dim" if architecture == "square" else "hidden_dim"
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigError, match=f"{option} is {value!r}"):
        HyperNetwork(targets_for(architecture), DIM, architecture=architecture, **options)


def test_a_name_is_given_once() -> None:
    with pytest.raises(ConfigError, match="'core' is Core already"):

        @register_architecture("core")
        class Another(Architecture):
            pass
