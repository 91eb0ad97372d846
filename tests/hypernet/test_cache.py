"""The same query is generated once, and memory has a bound."""

from __future__ import annotations

import pytest
import torch

from intrinsic.errors import ConfigError, HypernetError
from intrinsic.hypernet.cache import GeneratedCache
from intrinsic.hypernet.generator import WeightGenerator
from tests.hypernet.nets import fresh, queries, shaken


def generator(seed: int = 0) -> WeightGenerator:
    network = shaken(fresh(), seed=seed)
    return WeightGenerator(network, torch.ones(len(network.targets)))


def test_the_same_content_is_generated_once() -> None:
    cache, made = GeneratedCache(), generator()
    first = cache.generate(made, queries()[0])
    assert cache.generate(made, queries()[0].clone()) is first
    assert cache.generate(made, queries()[0].double().numpy()) is first
    assert cache.generate(made, queries()[1]) is not first
    found = cache.statistics()
    assert (found.hits, found.misses, found.entries, found.evictions) == (2, 2, 2, 0)
    assert found.bytes_used == 2 * first.bytes_used


def test_another_network_is_another_adapter() -> None:
    cache = GeneratedCache()
    one, other = (cache.generate(generator(seed), queries()[0]) for seed in (0, 1))
    assert one.key != other.key
    assert cache.generate(generator(0), queries()[0]) is one


def test_those_not_used_for_longest_go_first() -> None:
    made = generator()
    size = made.generate(queries()[0]).bytes_used
    cache = GeneratedCache(2 * size)
    first, second = (cache.generate(made, query) for query in queries(2))
    cache.generate(made, queries(2)[0])
    cache.generate(made, queries(3)[2])
    assert cache.get(first.network, first.digest) is first
    assert cache.get(second.network, second.digest) is None
    found = cache.statistics()
    assert (found.entries, found.evictions, found.bytes_used) == (2, 1, 2 * size)


def test_putting_one_again_counts_its_bytes_once() -> None:
    cache, one = GeneratedCache(), generator().generate(queries()[0])
    cache.put(one)
    cache.put(one)
    assert cache.statistics().bytes_used == one.bytes_used


@pytest.mark.parametrize("max_bytes", [0, 10])
def test_what_has_no_room_is_not_kept(max_bytes: int) -> None:
    cache, made = GeneratedCache(max_bytes), generator()
    one, same = cache.generate(made, queries()[0]), cache.generate(made, queries()[0])
    assert one is not same
    assert one.key == same.key
    assert cache.statistics().entries == 0


def test_cleared_is_empty() -> None:
    cache, made = GeneratedCache(), generator()
    cache.generate(made, queries()[0])
    cache.clear()
    found = cache.statistics()
    assert (found.entries, found.bytes_used, found.misses) == (0, 0, 1)


def test_a_bad_embedding_changes_nothing() -> None:
    cache = GeneratedCache()
    with pytest.raises(HypernetError, match="takes"):
        cache.generate(generator(), torch.zeros(3))
    assert cache.statistics().misses == 0


@pytest.mark.parametrize("max_bytes", [-1, 1.5])
def test_a_bound_that_is_none_is_refused(max_bytes: int) -> None:
    with pytest.raises(ConfigError, match="max_bytes is"):
        GeneratedCache(max_bytes)
