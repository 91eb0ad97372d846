"""Host memory for checkpoints: its budget, its order, and whether files are still the same."""

from __future__ import annotations

import os
import shutil
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intrinsic.backends import host_tier, system_memory
from intrinsic.backends.adapter_size import bytes_once_loaded
from intrinsic.backends.host_tier import HostTier
from intrinsic.backends.page_locked import page_locked
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.engine import LoraEngine
from intrinsic.errors import CheckpointError, ConfigError
from intrinsic.lora import LoraCheckpoint, read_checkpoint
from tests.bus.backends import both_backends
from tests.tiny import llama, tokenizer, write_adapter

RANKS = (1, 2, 3, 4, 8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Adapters of different sizes."""
    model, root = llama(), tmp_path_factory.mktemp("adapters")
    return [write_adapter(root / f"r{r}", model, r=r, seed=r) for r in RANKS]


class Reads:
    """Counts the reads of files, and holds them back while `gate` is closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        monkeypatch.setattr(host_tier, "read_checkpoint", self)

    def __call__(self, folder: str | Path) -> LoraCheckpoint:
        self.paths.append(str(folder))
        self.entered.set()
        assert self.gate.wait(10)
        return read_checkpoint(folder)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def bytes_of(checkpoint: LoraCheckpoint) -> int:
    tensors = [t for f in checkpoint.factors.values() for t in (f.A, f.B)]
    return sum(t.numel() * t.element_size() for t in tensors)


def test_what_is_held_is_neither_read_nor_copied_again(folders: list[Path], reads: Reads) -> None:
    tier = HostTier(10**9)
    first = tier.read(folders[0])
    assert tier.read(str(folders[0])) is first
    assert reads.paths == [str(folders[0])]
    engine = LoraEngine(llama())
    engine.load(tier.read(folders[0]), "a")
    held = engine._loaded["a"].factors
    assert all(held[name].A is factors.A for name, factors in first.factors.items())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_budget_the_order_and_the_counters_hold_for_any_use(
    folders: list[Path], data: st.DataObject
) -> None:
    sizes = [bytes_of(read_checkpoint(folder)) for folder in folders]
    limit = data.draw(st.integers(0, sum(sizes)))
    tier = HostTier(limit)
    expected: OrderedDict[str, tuple[int, bool]] = OrderedDict()
    hits = misses = evictions = 0
    steps = st.tuples(st.integers(0, len(folders) - 1), st.booleans())
    for place, ahead in data.draw(st.lists(steps, max_size=25)):
        path, size = str(folders[place]), sizes[place]
        tier.read(path, ahead=ahead)
        if path in expected:
            hits += not ahead and not expected[path][1]
            expected[path] = (size, expected[path][1] and ahead)
            expected.move_to_end(path)
        else:
            misses += 1
            if size <= limit:
                while sum(s for s, _ in expected.values()) + size > limit:
                    expected.popitem(last=False)
                    evictions += 1
                expected[path] = (size, ahead)
        found = tier.statistics()
        assert list(found.bytes_by_path.items()) == [(p, s) for p, (s, _) in expected.items()]
        assert found.bytes_used == sum(found.bytes_by_path.values()) <= limit
        assert (found.hits, found.misses, found.evictions) == (hits, misses, evictions)


def test_a_smaller_budget_holds_at_once_and_zero_is_off(folders: list[Path]) -> None:
    tier = HostTier(10**9)
    for folder in folders:
        tier.read(folder)
    newest = bytes_of(tier.read(folders[-1]))
    tier.limit(newest)
    assert tier.statistics().bytes_by_path == {str(folders[-1]): newest}
    tier.limit(0)
    tier.read(folders[0])
    assert tier.statistics().bytes_used == 0
    with pytest.raises(ConfigError, match="-1"):
        tier.limit(-1)


def test_an_adapter_beyond_the_budget_displaces_nobody(folders: list[Path]) -> None:
    small = bytes_of(read_checkpoint(folders[0]))
    tier = HostTier(small)
    tier.read(folders[0])
    assert tier.read(folders[-1]).factors
    assert list(tier.statistics().bytes_by_path) == [str(folders[0])]
    assert tier.statistics().evictions == 0


@pytest.mark.parametrize("how", ["in place", "in place, old time", "moved there", "other config"])
def test_replaced_files_are_read_anew(tmp_path: Path, how: str) -> None:
    model = llama()
    folder = write_adapter(tmp_path / "a", model, seed=1)
    other = write_adapter(tmp_path / "b", model, seed=2, alpha=32)
    weights, config = "adapter_model.safetensors", "adapter_config.json"
    tier = HostTier(10**9)
    before = tier.read(folder)
    former = (folder / weights).stat()
    if how == "moved there":
        (other / weights).replace(folder / weights)
    elif how == "other config":
        (other / config).replace(folder / config)
    else:
        data = (other / weights).read_bytes()
        while (folder / weights).stat().st_ctime_ns == former.st_ctime_ns:
            (folder / weights).write_bytes(data)
    if how.endswith("old time"):
        os.utime(folder / weights, ns=(former.st_atime_ns, former.st_mtime_ns))
    after = tier.read(folder)
    assert after.digest != before.digest
    assert after.digest == read_checkpoint(folder).digest
    found = tier.statistics()
    assert (found.hits, found.misses, len(found.bytes_by_path)) == (0, 2, 1)


def test_files_that_turned_faulty_are_refused_and_the_old_ones_forgotten(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", llama())
    tier = HostTier(10**9)
    tier.read(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"no tensors")
    for _ in range(2):
        with pytest.raises(CheckpointError):
            tier.read(folder)
    assert tier.statistics().bytes_used == 0


@pytest.mark.parametrize("whole", [True, False])
def test_files_that_were_deleted_are_served_as_they_were(tmp_path: Path, *, whole: bool) -> None:
    folder = write_adapter(tmp_path / "a", llama())
    tier = HostTier(10**9)
    before = tier.read(folder)
    if whole:
        shutil.rmtree(folder)
    else:
        (folder / "adapter_model.safetensors").unlink()
    assert tier.read(folder) is before
    tier.limit(0)
    tier.limit(10**9)
    with pytest.raises(CheckpointError):
        tier.read(folder)


def test_files_that_change_while_they_are_read_are_not_kept(tmp_path: Path, reads: Reads) -> None:
    folder = write_adapter(tmp_path / "a", llama())
    tier = HostTier(10**9)
    reads.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(tier.read, folder)
        assert reads.entered.wait(10)
        write_adapter(folder, llama(), seed=5)
        reads.gate.set()
        under_way.result(10)
    assert tier.statistics().bytes_used == 0
    assert tier.read(folder).digest == read_checkpoint(folder).digest


def test_what_is_forgotten_is_gone_also_while_it_is_read(folders: list[Path], reads: Reads) -> None:
    tier = HostTier(10**9)
    first = tier.read(folders[0])
    tier.read(folders[1])
    tier.forget(folders[0])
    tier.forget(folders[0].parent / "none")
    assert list(tier.statistics().bytes_by_path) == [str(folders[1])]
    assert tier.statistics().bytes_used == bytes_of(tier.read(folders[1]))
    reads.entered.clear()
    reads.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(tier.read, folders[0])
        assert reads.entered.wait(10)
        tier.forget(folders[0])
        reads.gate.set()
        assert under_way.result(10).digest == first.digest
    assert list(tier.statistics().bytes_by_path) == [str(folders[1])]
    tier.read(folders[0])
    assert str(folders[0]) in tier.statistics().bytes_by_path
    assert tier.statistics().evictions == 0


def test_a_file_that_many_threads_want_is_read_once(folders: list[Path], reads: Reads) -> None:
    tier = HostTier(10**9)
    reads.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(tier.read, folders[0]) for _ in range(8)]
        assert reads.entered.wait(10)
        reads.gate.set()
        assert len({id(future.result(10)) for future in found}) == 1
    assert len(reads.paths) == 1
    statistics = tier.statistics()
    assert (statistics.hits, statistics.misses) == (7, 1)


def test_a_read_that_fails_leaves_nobody_waiting(tmp_path: Path, reads: Reads) -> None:
    tier = HostTier(10**9)
    reads.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(tier.read, tmp_path / "none") for _ in range(4)]
        assert reads.entered.wait(10)
        reads.gate.set()
        assert all(isinstance(f.exception(10), CheckpointError) for f in found)


def test_threads_in_competition_never_exceed_the_budget(folders: list[Path]) -> None:
    sizes = [bytes_of(read_checkpoint(folder)) for folder in folders]
    tier = HostTier(max(sizes) + min(sizes))
    digests = [read_checkpoint(folder).digest for folder in folders]
    over: list[int] = []

    def use(worker: int) -> None:
        for turn in range(40):
            place = (worker * 7 + turn * 3) % len(folders)
            assert tier.read(folders[place], ahead=turn % 3 == 0).digest == digests[place]
            found = tier.statistics()
            if found.bytes_used > found.max_bytes:
                over.append(found.bytes_used)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(use, range(6)))
    found = tier.statistics()
    assert not over
    assert found.bytes_used == sum(found.bytes_by_path.values())
    assert found.misses - found.evictions == len(found.bytes_by_path)


def test_the_default_is_a_quarter_of_what_there_is_and_at_most_4_gib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(system_memory, "_CGROUP_LIMIT", limit)
    assert 0 < HostTier().statistics().max_bytes <= 4 * 2**30
    limit.write_text("400000\n")
    assert HostTier().statistics().max_bytes == 100_000
    limit.write_text("max\n")
    assert HostTier().statistics().max_bytes > 100_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [{}, {"use_dora": True}])
def test_the_bytes_on_the_device_are_known_beforehand(
    tmp_path: Path, dtype: torch.dtype, kind: dict[str, object]
) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], **kind)
    get_peft_model(llama(), config).save_pretrained(str(tmp_path))
    checkpoint = read_checkpoint(tmp_path)
    model = llama(dtype=dtype)
    expected = bytes_once_loaded(checkpoint, model)
    assert LoraEngine(model).load(checkpoint, "a").bytes_used == expected


@both_backends
async def test_a_prefetched_adapter_is_loaded_without_its_files(tmp_path: Path) -> None:
    backend = TransformersBackend(llama(), tokenizer())
    path = str(write_adapter(tmp_path / "a", backend.model))
    expected = await backend.prefetch_lora_adapter(path)
    shutil.rmtree(path)
    info = await backend.load_lora_adapter(path, "a")
    assert info.bytes_used == expected
    memory = backend.host_memory()
    assert (memory.hits, memory.misses) == (0, 1)
    await backend.unload_lora_adapter("a")
    await backend.load_lora_adapter(path, "a")
    assert backend.host_memory().hits == 1
    backend.limit_host_memory(0)
    assert backend.host_memory().bytes_by_path == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_factors_are_page_locked_and_the_same(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_adapter(tmp_path / "a", llama()))
    locked = page_locked(checkpoint)
    for name, factors in checkpoint.factors.items():
        assert locked.factors[name].A.is_pinned()
        assert torch.equal(locked.factors[name].A, factors.A)
    assert HostTier(10**9, pin=True).read(checkpoint.path).bytes_used == checkpoint.bytes_used


def test_a_system_without_more_page_locked_memory_keeps_the_checkpoint_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no more")

    monkeypatch.setattr(torch.Tensor, "pin_memory", fail)
    folder = write_adapter(tmp_path / "a", llama())
    tier = HostTier(10**9, pin=True)
    assert tier.read(folder) is tier.read(folder)
    assert "stays in pageable memory: no more" in caplog.text
