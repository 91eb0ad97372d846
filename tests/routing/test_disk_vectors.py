"""Vectors on disk: kept by content, bounded, and never worse than none."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from intrinsic.routing.cache_folder import write_whole
from intrinsic.routing.disk_vectors import DiskVectors
from tests.routing.fakes import Clock

DAY_S = 86_400


def rows(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([[value, 1.0, -0.5] for value in values], np.float32)


def test_vectors_come_back_as_they_were_by_model_and_text(tmp_path: Path) -> None:
    disk = DiskVectors(tmp_path / "new", 100)
    assert disk.get("m", ["a"]) == [None]
    disk.put("m", ["a", "b \ud800"], rows(0.1, 0.2))
    disk.close()
    again = DiskVectors(tmp_path / "new", 100)
    b, none, a = again.get("m", ["b \ud800", "c", "a"])
    assert none is None
    assert a is not None
    assert b is not None
    np.testing.assert_array_equal(np.stack([a, b]), rows(0.1, 0.2))
    assert again.get("other model", ["a"]) == [None]


def test_no_text_is_on_disk(tmp_path: Path) -> None:
    disk = DiskVectors(tmp_path, 100)
    disk.put("m", ["a very secret sentence"], rows(1))
    disk.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"secret" not in content


def test_many_are_read_at_once(tmp_path: Path) -> None:
    disk = DiskVectors(tmp_path, 5000)
    texts = [f"text {n}" for n in range(3000)]
    disk.put("m", texts, rows(*range(3000)))
    found = disk.get("m", texts[::-1])
    assert [None if one is None else one[0] for one in found] == list(range(2999, -1, -1))


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    clock = Clock()
    disk = DiskVectors(tmp_path, 3, clock=clock)
    for text in ("a", "b", "c"):
        disk.put("m", [text], rows(1))
        clock.now_s += DAY_S
    assert disk.get("m", ["a"])[0] is not None
    clock.now_s += DAY_S
    disk.put("m", ["d", "e"], rows(1, 2))
    assert [one is not None for one in disk.get("m", list("abcde"))] == [
        True, False, False, True, True
    ]  # fmt: skip


def test_a_damaged_row_is_not_found(tmp_path: Path) -> None:
    disk = DiskVectors(tmp_path, 100)
    disk.put("m", ["a", "b", "c"], rows(1, 2, 3))
    disk.close()
    with sqlite3.connect(disk.path) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM vectors ORDER BY rowid")]
        (value,) = connection.execute("SELECT value FROM vectors WHERE key = ?", keys[:1])
        flipped = value[0][:-1] + bytes([value[0][-1] ^ 1])
        connection.execute("UPDATE vectors SET value = ? WHERE key = ?", (flipped, keys[0]))
        connection.execute("UPDATE vectors SET value = 'text' WHERE key = ?", keys[1:2])
    connection.close()
    assert [one is not None for one in disk.get("m", ["a", "b", "c"])] == [False, False, True]
    disk.put("m", ["a"], rows(1))
    assert disk.get("m", ["a"])[0] is not None


@pytest.mark.parametrize("keep", [0, 5000])
def test_a_damaged_file_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keep: int
) -> None:
    disk = DiskVectors(tmp_path, 1000)
    disk.put("m", [str(n) for n in range(100)], rows(*range(100)))
    disk.close()
    content = disk.path.read_bytes()
    assert len(content) > 2 * 5000
    disk.path.write_bytes(content[:keep] + os.urandom(len(content) - keep))
    assert disk.get("m", ["1"]) == [None]
    assert "damaged; they are made again" in caplog.text
    disk.put("m", ["1"], rows(1))
    assert disk.get("m", ["1"])[0] is not None


def test_a_folder_that_cannot_be_written_switches_it_off_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        disk = DiskVectors(tmp_path / "file", 100)
        disk.put("m", ["a"], rows(1))
        assert disk.get("m", ["a", "b"]) == [None, None]
    lines = [line for line in caplog.records if line.levelno == logging.WARNING]
    assert [line.message.split(":")[0] for line in lines] == ["vectors are not kept on disk"] * 2


def test_a_database_that_another_holds_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **kw: connect(path, **{**kw, "timeout": 0})
    )
    disk = DiskVectors(tmp_path, 100)
    disk.put("m", ["a"], rows(1))
    other = connect(disk.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    disk.put("m", ["b"], rows(2))
    other.execute("ROLLBACK")
    other.close()
    disk.put("m", ["c"], rows(3))
    assert [one is not None for one in disk.get("m", ["a", "b", "c"])] == [True, False, True]


def test_threads_share_it(tmp_path: Path) -> None:
    disk = DiskVectors(tmp_path, 10_000)

    def write(number: int) -> None:
        for n in range(20):
            disk.put("m", [f"{number} {n}"], rows(number))
            assert disk.get("m", [f"{number} {n}"])[0] is not None

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [f"{number} {n}" for number in range(4) for n in range(20)]
    assert all(one is not None for one in disk.get("m", texts))


def test_a_connection_is_not_used_after_a_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskVectors(tmp_path, 100)
    disk.put("m", ["a"], rows(1))
    parents = disk._connection
    assert parents is not None
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert disk.get("m", ["a"])[0] is not None
    assert disk._connection is not parents
    parents.execute("SELECT count(*) FROM vectors").close()
    parents.close()


def test_a_process_that_is_killed_while_it_writes_leaves_a_sound_file(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, pathlib\n"
        "from intrinsic.routing.disk_vectors import DiskVectors\n"
        "disk = DiskVectors(pathlib.Path(sys.argv[1]), 10**6)\n"
        "for n in range(10**6):\n"
        "    disk.put('m', [f'{n} {k}' for k in range(50)], np.full((50, 384), n, np.float32))\n"
        "    print(n, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lasts = [process.stdout.readline() for _ in range(5)]
    process.kill()
    process.wait()
    process.stdout.close()
    assert lasts[-1] == "4\n"
    disk = DiskVectors(tmp_path, 10**6)
    for n in range(5):
        found = disk.get("m", [f"{n} {k}" for k in range(50)])
        assert all(one is not None and (one == n).all() for one in found)


def test_a_file_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "file"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"

    def fail(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"three")
    assert [one.name for one in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == b"two"
