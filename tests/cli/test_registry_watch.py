"""`intrinsic adapters rescan --watch` tells what was dropped into a folder, until it is stopped."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import refuses, run
from tests.tiny import llama, write_adapter

MAIN = "from intrinsic.cli import main; main()"


def test_what_is_dropped_in_is_told_until_it_is_stopped(tmp_path: Path) -> None:
    ready = write_adapter(tmp_path / "ready", llama())
    folder = tmp_path / "adapters"
    write_adapter(folder / "first", llama())
    registry = str(tmp_path / "r.db")
    assert run("adapters", "register", folder / "first", "--registry", registry).exit_code == 0
    write_adapter(folder / "second", llama())
    command = [sys.executable, "-c", MAIN, "adapters", "rescan", str(folder), "--watch"]
    with subprocess.Popen(
        [*command, "--registry", registry],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(2)]
        assert told[1] == "second@1\tregistered, active\n"
        shutil.copytree(ready, folder / "third")
        told = [process.stdout.readline() for _ in range(2)]
        assert told[1] == "third@1\tregistered, active\n"
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 130


def test_without_a_folder_there_is_nothing_to_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = str(tmp_path / "r.db")
    made = write_adapter(tmp_path / "one", llama())
    assert run("adapters", "register", made, "--registry", registry).exit_code == 0
    given = ["adapters", "rescan", "--watch", "--registry", registry]
    refuses(monkeypatch, capsys, given, "no folder to watch")
