"""Files that the registry keeps itself: with their row, or neither, whenever a process dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.lowlevel import current_token

from intrinsic.errors import AdapterExistsError, CheckpointError, RegistryError
from intrinsic.registry.store.copies import Copies
from intrinsic.registry.store.database import Database
from intrinsic.registry.store.versions import Versions
from tests.bus.backends import both_backends
from tests.registry.store.making import ROOT, record

FILES = {
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": bytes(range(256)) * 40,
    "card.toml": b"domain = 'x'",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "checkpoint-5").mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (folder / "optimizer.pt").write_bytes(b"large")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@both_backends
async def test_an_adapters_files_are_copied_and_nothing_else(
    where: str, tmp_path: Path, source: Path
) -> None:
    checked: list[dict[str, bytes]] = []
    root = tmp_path / "kept"
    async with Database(where) as database:
        new = record(path=source)
        kept = await Copies(database, root).add(
            new, check=lambda folder: checked.append(contents(folder))
        )
        assert await Versions(database).get("sql") == kept
        assert await Copies(database, root).sweep() == ()
    assert kept.path == root / new.id
    assert kept.copied
    assert contents(kept.path) == FILES
    assert FILES.items() <= checked[0].items()
    assert [path.name for path in root.iterdir()] == [new.id]


@both_backends
async def test_what_is_refused_leaves_nothing(where: str, tmp_path: Path, source: Path) -> None:
    def refuse(folder: Path) -> None:
        raise CheckpointError(f"{folder.name} was changed")

    root = tmp_path / "kept"
    async with Database(where) as database:
        copies = Copies(database, root)
        with pytest.raises(CheckpointError, match="was changed"):
            await copies.add(record(path=source), check=refuse)
        with pytest.raises(CheckpointError, match=r"has no adapter_config\.json"):
            await copies.add(record(path=tmp_path))
        assert list(root.iterdir()) == []
        kept = await copies.add(record(path=source))
        with pytest.raises(AdapterExistsError, match=r"1\.0\.1"):
            await copies.add(record(path=source))
        # One that another process adds while the files are copied.
        rival, token = record("sql@2", path=source), current_token()

        def add_rival(_: Path) -> None:
            anyio.from_thread.run(Versions(database).add, rival, token=token)

        with pytest.raises(AdapterExistsError, match="'2' is registered"):
            await copies.add(record("sql@2", path=source), check=add_rival)
        assert [path.name for path in root.iterdir()] == [kept.id]
        assert [live.id for live in await Versions(database).all_live()] == [kept.id, rival.id]


@both_backends
async def test_a_cancelled_copy_leaves_nothing(where: str, tmp_path: Path, source: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: Path) -> None:
        begun.set()
        assert go_on.wait(10)

    async with Database(where) as database:
        copies = Copies(database, tmp_path / "kept")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: copies.add(record(path=source), check=wait))
            await anyio.to_thread.run_sync(begun.wait)
            tasks.cancel_scope.cancel()
            go_on.set()
        assert list(copies.root.iterdir()) == []
        assert await Versions(database).all_live() == ()


@both_backends
async def test_a_sweep_leaves_what_is_being_copied(
    where: str, tmp_path: Path, source: Path
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: Path) -> None:
        begun.set()
        assert go_on.wait(10)

    async with Database(where) as database:
        copies = Copies(database, tmp_path / "kept")
        new = record(path=source)
        (copies.root / ".incoming-stale").mkdir(parents=True)
        (copies.root / "somebody-elses").mkdir()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: copies.add(new, check=wait))
            await anyio.to_thread.run_sync(begun.wait)
            assert await Copies(database, copies.root).sweep() == ("stale",)
            go_on.set()
        assert {path.name for path in copies.root.iterdir()} == {new.id, "somebody-elses"}
        assert contents(copies.root / new.id) == FILES


@both_backends
async def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").touch()
    async with Database(tmp_path / "registry.db") as database:
        with pytest.raises(RegistryError, match="register the adapter without a copy"):
            await Copies(database, tmp_path / "file").add(record(path=source))
        assert await Versions(database).all_live() == ()


POINTS = [
    "before the first file",
    "in the midst of the weights",
    "before the rename",
    "after the rename",
    "before the commit",
    "after the commit",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_registration_is_whole_or_swept(tmp_path: Path, source: Path, point: str) -> None:
    where, root = tmp_path / "registry.db", tmp_path / "kept"
    child = subprocess.run(
        [sys.executable, "-m", "tests.registry.store.child", "copy", where, root, source, point],
        cwd=ROOT,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert len(list(root.iterdir())) == 1  # it was in the midst of it

    async def look() -> None:
        async with Database(where) as database:
            versions, copies = Versions(database), Copies(database, root)
            kept = await versions.all_live()
            assert len(kept) == (point == "after the commit")
            for one in kept:
                assert FILES.items() <= contents(one.path).items()
            assert len(await copies.sweep()) == 1
            assert await copies.sweep() == ()
            assert [path.name for path in root.iterdir()] == [one.id for one in kept]
            assert [contents(one.path) for one in kept] == [FILES] * len(kept)
            if not kept:
                again = await copies.add(record(path=source))
                assert contents(again.path) == FILES

    anyio.run(look)
