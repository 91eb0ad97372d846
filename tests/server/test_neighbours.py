"""Servers on one registry know of each other, for as long as they run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from intrinsic.server.neighbours import told_of_others

HOLD = """
import sys
from pathlib import Path
from intrinsic.server.neighbours import told_of_others
with told_of_others(Path(sys.argv[1]), "http://first"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_of_the_first_while_that_one_runs(tmp_path: Path) -> None:
    registry = tmp_path / "r.db"
    with told_of_others(registry, "http://first") as other:
        assert other is None
        for _ in range(2):  # the second takes nothing from the first
            with told_of_others(registry, "http://second") as other:
                assert other == f"process {os.getpid()} at http://first"
        with told_of_others(tmp_path / "another.db", "http://third") as other:
            assert other is None
    with told_of_others(registry, "http://second") as other:
        assert other is None


def test_a_server_that_crashed_is_not_there_any_more(tmp_path: Path) -> None:
    registry = tmp_path / "r.db"
    command = [sys.executable, "-c", HOLD, str(registry)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with told_of_others(registry, "http://second") as other:
            assert other == f"process {process.pid} at http://first"
        process.kill()
        process.wait()
    with told_of_others(registry, "http://second") as other:
        assert other is None


def test_the_third_is_told_of_the_second_when_the_first_has_gone(tmp_path: Path) -> None:
    registry = tmp_path / "r.db"
    command = [sys.executable, "-c", HOLD, str(registry)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with told_of_others(registry, "http://second") as other:
            assert other == f"process {first.pid} at http://first"
            first.kill()
            first.wait()
            with told_of_others(registry, "http://third") as other:
                assert other == f"process {os.getpid()} at http://second"
    with told_of_others(registry, "http://fourth") as other:
        assert other is None


def test_where_nothing_can_be_written_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for registry in (None, tmp_path / "file" / "r.db", tmp_path / "none" / "r.db"):
        with told_of_others(registry, "http://first") as other:
            assert other is None
