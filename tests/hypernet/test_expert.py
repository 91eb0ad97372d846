"""Generated adapters on a live model: like any other adapter, and gone without a trace."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch

from intrinsic.backends import FunctionBackend, GenerationOptions
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.bus import MemoryBus
from intrinsic.errors import (
    AdapterNotFoundError,
    CapabilityError,
    CapacityError,
    ConfigError,
    HypernetError,
)
from intrinsic.hypernet.check import Example
from intrinsic.hypernet.expert import InstantExpert, Refusal
from intrinsic.hypernet.expert_options import ExpertOptions
from intrinsic.hypernet.generator import WeightGenerator
from intrinsic.manager import AdapterManager
from intrinsic.mixture import BASE, Mixture
from intrinsic.registry import AdapterRegistry
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.registering import Newcomer
from intrinsic.selection import Selection
from intrinsic.wiring import WiringOptions, setup_weight_interface
from tests.bus.backends import both_backends
from tests.hypernet.nets import shaken
from tests.hypernet.serving import (
    DESCRIPTIONS,
    KNOWN,
    NOTHING,
    STRANGE,
    Words,
    bare,
    exact,
    expert_of,
    gate,
    logits,
    manager_of,
    network,
    traces,
)
from tests.tiny import write_adapter

SHORT = GenerationOptions(max_new_tokens=8)


async def offered(expert: InstantExpert, query: str = KNOWN, **others: Any) -> str:
    found = await expert.offer(query, **others)
    assert isinstance(found, str), found
    return found


@both_backends
async def test_a_generated_adapter_is_what_the_network_says(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager)
    selection = await expert.select(KNOWN)
    assert isinstance(selection, Selection)
    assert selection.adapter.startswith("hypernet@")
    assert 0.4 <= selection.confidence <= 1.0
    assert selection.reason.startswith("generated: its mean cosine with the 4 nearest")
    async with manager.lease(selection) as lease:
        assert lease.adapters == (selection.adapter,)
        found = logits(manager, lease.mixture)
        generation = await lease.generate("hello", SHORT)
        assert generation.tokens > 0
    reference = exact(manager, expert, {KNOWN: 1.0})
    torch.testing.assert_close(found.double(), reference, atol=1e-4, rtol=1e-4)
    assert (found - bare()).abs().max() > 0.01
    await expert.close()
    assert traces(manager) == NOTHING


@both_backends
async def test_it_mixes_with_stored_adapters_and_with_others_of_its_kind(tmp_path: Path) -> None:
    manager = manager_of(tmp_path, max_loaded=4)
    expert = expert_of(manager)
    first, second = [await offered(expert, query) for query in DESCRIPTIONS[:2]]
    assert first != second
    weights = {first: 0.7, second: -0.4, "a@1": 0.5}
    async with manager.lease(weights) as lease:
        found = logits(manager, lease.mixture)
    parts = {DESCRIPTIONS[0]: 0.7, DESCRIPTIONS[1]: -0.4, "a": 0.5}
    reference = exact(manager, expert, parts)
    torch.testing.assert_close(found.double(), reference, atol=1e-4, rtol=1e-4)
    await manager.fuse(weights)
    assert not await manager.discard(first)
    async with manager.lease(weights):
        merged = logits(manager, Mixture.of({first: 0.7, second: -0.4, "a@1": 0.5}))
    torch.testing.assert_close(merged.double(), reference, atol=1e-4, rtol=1e-4)
    await expert.close()
    assert traces(manager) == NOTHING


@both_backends
async def test_rows_of_one_batch_have_adapters_of_their_own(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager)
    keys = [await offered(expert, query) for query in DESCRIPTIONS[:2]]
    async with manager.lease({keys[0]: 1.0, keys[1]: 1.0}):
        rows = logits(manager, [Mixture.of({key: 1.0}) for key in keys])
    for row, query in enumerate(DESCRIPTIONS[:2]):
        reference = exact(manager, expert, {query: 1.0})[row]
        torch.testing.assert_close(rows[row].double(), reference, atol=1e-4, rtol=1e-4)


@both_backends
async def test_requests_side_by_side_get_what_they_get_alone(tmp_path: Path) -> None:
    manager = manager_of(tmp_path, max_loaded=4)
    expert = expert_of(manager)
    texts: dict[str, list[str]] = {query: [] for query in (*DESCRIPTIONS, STRANGE)}

    async def answer(query: str) -> None:
        found = await expert.select(query)
        async with manager.lease(BASE if isinstance(found, Refusal) else found) as lease:
            texts[query].append((await lease.generate("hello", SHORT)).text)

    for query in texts:
        await answer(query)
    async with anyio.create_task_group() as group:
        for query in texts:
            group.start_soon(answer, query)
    assert all(alone == beside for alone, beside in texts.values())
    assert len({alone for alone, _ in texts.values()}) > 2


@both_backends
async def test_what_is_far_from_the_training_is_refused(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager)
    found = await expert.offer(STRANGE)
    assert isinstance(found, Refusal)
    assert "below 0.400" in found.why
    assert found.score < 0.4
    assert not (await expert.judge(STRANGE)).admitted
    assert (await expert.judge(KNOWN)).admitted
    assert expert.cache.statistics().misses == 0
    assert traces(manager) == NOTHING


@both_backends
@pytest.mark.parametrize("whose", ["gate", "options"])
async def test_weights_that_are_too_large_are_refused(tmp_path: Path, whose: str) -> None:
    manager = manager_of(tmp_path)
    generous = expert_of(manager, bound=1e6, max_relative_norm=1e6)
    key = await offered(generous)
    size = generous.generator.generate(Words().encode([KNOWN])[0]).relative_norm
    await generous.close()
    assert key not in manager.registry.loaded_adapters
    for factor, admitted in ((1.01, True), (0.99, False)):
        bounds: dict[str, Any] = {"gate": {"bound": size * factor}}.get(
            whose, {"max_relative_norm": size * factor}
        )
        expert = expert_of(manager, **bounds)
        found = await expert.offer(KNOWN)
        assert isinstance(found, str) is admitted
        if isinstance(found, Refusal):
            assert "of their size, above" in found.why
        await expert.close()
    assert traces(manager) == NOTHING


@both_backends
async def test_the_bound_is_on_what_is_applied(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    size = expert_of(manager).generator.generate(Words().encode([KNOWN])[0]).relative_norm
    for weight, admitted in ((-1.0, True), (2.0, False), (-2.0, False)):
        for bounds in ({"bound": 1.5 * size}, {"max_relative_norm": 1.5 * size}):
            expert = expert_of(manager, weight=weight, **bounds)
            assert isinstance(await expert.offer(KNOWN), str) is admitted


@both_backends
async def test_the_check_on_one_example_decides_by_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager, size=0.3, margin_share=0.0)
    key = await offered(expert)
    changes = {}
    for letter in "abcdefghij":
        scores = []
        for what in (BASE, key):
            async with manager.lease(what) as lease:
                scores += await lease.score("hello", [letter])
        changes[letter] = scores[1].per_token - scores[0].per_token
    best, worst = max(changes, key=changes.__getitem__), min(changes, key=changes.__getitem__)
    assert changes[worst] < 0.05 < changes[best]
    assert await offered(expert, example=Example("hello", best)) == key
    refused = await expert.offer(KNOWN, Example("hello", worst))
    assert isinstance(refused, Refusal)
    assert refused.why.startswith("on the example the loss is ")
    assert traces(manager) == NOTHING
    with monkeypatch.context() as once:  # what was found is known
        once.delattr(TransformersBackend, "score")
        assert await expert.offer(KNOWN, Example("hello", worst)) == refused
        assert await offered(expert, example=Example("hello", best)) == key


@both_backends
async def test_what_an_example_must_lose_is_what_was_found_in_training_unless_told(
    tmp_path: Path,
) -> None:
    manager = manager_of(tmp_path)
    said = []
    for options in ({}, {"share": 0.75}, {"share": 0.75, "margin_share": 0.5}):
        refused = await expert_of(manager, **options).offer(KNOWN, Example("hello", "a"))
        assert isinstance(refused, Refusal)
        loss, needed = (refused.why.split(word)[1].split()[0] for word in ("and ", "more than "))
        said.append(float(needed) / float(loss))
    assert said == pytest.approx([0.2, 0.75, 0.5], rel=0.02)


@both_backends
async def test_equal_queries_are_generated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    everybody_asked = threading.Event()
    generate = WeightGenerator.generate

    def counted(self: WeightGenerator, embedding: Any) -> Any:
        made.append(embedding)
        assert everybody_asked.wait(10)
        return generate(self, embedding)

    monkeypatch.setattr(WeightGenerator, "generate", counted)
    manager = manager_of(tmp_path)
    expert = expert_of(manager)
    assert isinstance(expert.encoder, Words)
    expert.encoder.when_asked = (6, everybody_asked)
    keys: list[str] = []

    async def ask(query: str) -> None:
        keys.append(await offered(expert, query))

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(ask, KNOWN)
    await ask(KNOWN)
    await ask("the word, please reverse")  # the same words
    assert len(set(keys)) == 1
    assert len(made) == 1
    await ask(DESCRIPTIONS[1])
    assert len(made) == 2
    assert expert.adapters == (keys[0], keys[-1])


@both_backends
async def test_two_hundred_queries_leave_no_more_than_eight_and_then_nothing(
    tmp_path: Path,
) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager, threshold=-2.0, max_cached=8, max_cache_bytes=100_000)
    backend: Any = manager.backend
    async with manager.lease("a"):
        stored = backend.host_memory().bytes_used
    most = 0
    for number in range(200):
        found = await expert.select(f"query number {number} {number * 7}")
        assert isinstance(found, Selection)
        async with manager.lease(found) as lease:
            assert lease.adapters == (found.adapter,)
        left = traces(manager) if number % 50 == 49 else {}
        assert len(left.get("registry", ())) == len(left.get("host", ())) in (0, 8)  # type: ignore
        most = max(most, backend.host_memory().bytes_used - stored)
        assert len(expert.adapters) <= 8
        assert len(manager.registry) <= 2 + 8
        assert expert.cache.statistics().bytes_used <= 100_000
    each = expert.generator.generate(Words().encode([KNOWN])[0]).bytes_used
    assert most == 8 * each
    assert len(backend.engine.loaded) <= 3
    assert len(manager._loader.host._adapters) <= 2 * (2 + 8)
    assert len(manager._loader._device.sizes) <= 2 + 8
    await expert.close()
    assert traces(manager) == NOTHING
    assert expert.cache.statistics().bytes_used == 0
    assert [entry.key for entry in manager.registry.list_adapters()] == ["a@1", "b@1"]


@both_backends
async def test_what_a_request_holds_is_not_evicted(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager, max_cached=1)
    key = await offered(expert)
    async with manager.lease(key) as lease:
        before = (await lease.generate("hello", SHORT)).text
        for query in DESCRIPTIONS:
            await offered(expert, query)
        assert key in expert.adapters
        assert len(expert.adapters) == 2
        assert (await lease.generate("hello", SHORT)).text == before
    await offered(expert, DESCRIPTIONS[0])
    assert key not in expert.adapters
    assert len(expert.adapters) == 1
    with pytest.raises(AdapterNotFoundError):
        await manager.load(key)
    assert await offered(expert) == key  # and generated anew, it is the same
    async with manager.lease(key) as lease:
        assert (await lease.generate("hello", SHORT)).text == before


@both_backends
async def test_what_was_taken_out_by_hand_is_offered_again(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager)
    key = await offered(expert)
    await manager.load(key)
    await manager.retire(key)
    manager.registry.remove_adapter(key)
    assert await offered(expert) == key
    async with manager.lease(key) as lease:
        assert lease.adapters == (key,)


@both_backends
async def test_a_cancelled_query_leaves_nothing_that_hinders_the_next(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager, threshold=-2.0, max_cached=2)
    for number in range(40):
        async with anyio.create_task_group() as group:
            group.start_soon(expert.select, f"query {number % 5}")
            for _ in range(number % 8):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        found = await expert.select(f"query {number % 7}")
        assert isinstance(found, Selection)
        async with manager.lease(found) as lease:
            await lease.generate("x", GenerationOptions(max_new_tokens=1))
        assert len(expert.adapters) <= 2
    await expert.close()
    assert traces(manager) == NOTHING


def test_a_task_that_asyncio_cancels_leaves_nothing_that_hinders_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        manager = manager_of(tmp_path)
        expert = expert_of(manager, threshold=-2.0, max_cached=2)
        for number in range(60):
            task = asyncio.create_task(expert.select(f"query {number % 5}"))
            for _ in range(number % 12):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            found = await expert.select(f"query {number % 7}")
            assert isinstance(found, Selection)
            async with manager.lease(found) as lease:
                await lease.generate("x", GenerationOptions(max_new_tokens=1))
            assert len(expert.adapters) <= 2
        await expert.close()
        assert traces(manager) == NOTHING

    asyncio.run(main())


@both_backends
async def test_a_catalogs_registry_holds_them_beside_its_own(tmp_path: Path) -> None:
    backend = manager_of(tmp_path).backend
    model: Any = backend
    async with MemoryBus() as bus, AdapterCatalog(tmp_path / "adapters.db", bus=bus) as catalog:
        folder = write_adapter(tmp_path / "c", model.model, base_model_name_or_path="tiny/llama")
        await catalog.register(Newcomer(folder, name="c", base_model="tiny/llama"))
        options = WiringOptions(router="keyword")
        manager, _ = setup_weight_interface(bus, backend, catalog, options=options)
        expert = expert_of(manager)
        found = await expert.select(KNOWN)
        assert isinstance(found, Selection)
        await catalog.refresh()
        async with manager.lease({found.adapter: 1.0, "c": 0.5}) as lease:
            await lease.generate("hello", SHORT)
            mixed = logits(manager, lease.mixture)
        reference = exact(manager, expert, {KNOWN: 1.0, "c": 0.5})
        torch.testing.assert_close(mixed.double(), reference, atol=1e-4, rtol=1e-4)
        page = await catalog.list()
        assert [record.key for record in page.records] == ["c@1"]
        await expert.close()
        assert traces(manager) == NOTHING


@both_backends
async def test_what_others_took_out_of_the_registry_is_in_nobodys_way(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager, threshold=-2, max_cached=1)
    manager.registry.remove_adapter(await offered(expert, "one word"))
    later = [await offered(expert, query) for query in ("two words", "three words")]
    assert expert.adapters == (later[1],)
    async with manager.lease(later[1]):
        assert traces(manager)["device"] == [later[1]]
    await expert.close()
    assert traces(manager) == NOTHING


@both_backends
async def test_nothing_comes_while_it_closes_or_after(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager)
    key = await offered(expert)
    async with anyio.create_task_group() as group, manager.lease(key):
        group.start_soon(expert.close)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(HypernetError, match="was closed and generates no more"):
            await expert.offer(DESCRIPTIONS[1])
    with pytest.raises(HypernetError, match="was closed and generates no more"):
        await expert.offer(KNOWN)
    await expert.close()
    assert traces(manager) == NOTHING


@both_backends
async def test_what_is_on_its_way_when_it_closes_is_not_left_behind(tmp_path: Path) -> None:
    manager = manager_of(tmp_path)
    expert = expert_of(manager)
    found: list[object] = []

    async def ask() -> None:
        with pytest.raises(HypernetError, match="was closed"):
            found.append(await expert.offer(KNOWN))

    expert._generating.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await expert.close()
        expert._generating.release()
    assert found == []
    assert traces(manager) == NOTHING


@both_backends
async def test_bad_input_is_one_error_and_changes_nothing(tmp_path: Path) -> None:
    manager = manager_of(tmp_path, max_host_bytes=100)
    expert = expert_of(manager)
    with pytest.raises(RuntimeError, match="told to fail"):
        await expert.offer("unreadable")
    with pytest.raises(CapacityError, match="raise max_host_bytes"):
        await expert.offer(KNOWN)
    with pytest.raises(ConfigError, match=r"the example is \('p', 'a'\); give an Example"):
        await expert.offer(KNOWN, ("p", "a"))  # type: ignore[arg-type]
    assert expert.adapters == ()
    assert traces(manager) == NOTHING
    short = InstantExpert(shaken(network()), HalfWords(), gate(), manager)
    with pytest.raises(HypernetError, match="use the encoder that"):
        await short.offer(KNOWN)


class HalfWords(Words):
    """An encoder of another dimension."""

    def encode(self, texts: Any) -> Any:
        return super().encode(texts)[:, ::2]


def test_what_cannot_serve_is_refused_at_once(tmp_path: Path) -> None:
    async def answer(prompt: object) -> str:
        return "none"

    hosted = AdapterManager(FunctionBackend(answer, name="hosted"), AdapterRegistry())
    with pytest.raises(CapabilityError, match="'hosted' cannot take adapters"):
        expert_of(hosted)
    taken = manager_of(tmp_path / "taken", "a")
    taken.registry.register_adapter(tmp_path / "taken" / "a", name="hypernet")
    with pytest.raises(ConfigError, match="register it under another name"):
        expert_of(taken)
    other = manager_of(tmp_path / "other", "")
    backend: Any = other.backend
    del backend.model.model.layers[1]
    with pytest.raises(HypernetError, match=r"no layer model\.layers\.1"):
        expert_of(other)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight": float("nan")}, "weight is nan"),
        ({"max_relative_norm": 0.0}, "max_relative_norm is 0.0"),
        ({"max_cached": 0}, "max_cached is 0"),
        ({"max_cache_bytes": -1}, "max_cache_bytes is -1"),
        ({"margin": -0.1}, "margin is -0.1"),
        ({"margin_share": 1.0}, "margin_share is 1.0"),
    ],
)
def test_options_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ExpertOptions(**options)
