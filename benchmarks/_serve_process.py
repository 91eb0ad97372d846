"""The two processes that are compared: the service, and the system without it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks._serve_probe import REPORT

ROOT = Path(__file__).parents[1]
MAX_LOADED = 4
_COMMAND = "from intrinsic.cli import main; main()"
_START_S = 120.0
_PROBE = "from benchmarks._serve_probe import register_handlers as register_handlers\n"


@dataclass(frozen=True)
class Server:
    """`intrinsic serve` over the bundled model, in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    admin_key: str
    report: Path

    def look(self) -> dict[str, int]:
        """What is alive in the process, as the probe sees it."""
        self.report.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + _START_S
        while not self.report.exists():
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError("the server does not report")
            time.sleep(0.01)
        found: dict[str, int] = json.loads(self.report.read_text())
        return found

    def trace_memory(self) -> None:
        """Count what Python allocates from here on."""
        self.process.send_signal(signal.SIGUSR2)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Start the service, and stop it as a supervisor does, by SIGTERM."""
    plugins, keys, report = folder / "plugins", folder / "keys.json", folder / "report.json"
    plugins.mkdir()
    (plugins / "probe.py").write_text(_PROBE)
    port = _free_port()
    flags = ["--port", str(port), "--key-file", str(keys), "--plugins", str(plugins)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, "serve", *flags],
            cwd=ROOT,
            env=_environment(folder) | {REPORT: str(report)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_it_answers(process, port, folder / "server.log")
            yield Server(process, port, json.loads(keys.read_text())["admin_key"], report)
            process.terminate()
            if process.wait(_START_S) != 0:
                raise RuntimeError(f"the server ended with status {process.returncode}")
        finally:
            process.kill()
            process.wait()


class Direct:
    """The system in a process like the service's, asked over pipes and not over HTTP."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._serve_direct", str(MAX_LOADED)],
            cwd=ROOT,
            env=_environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one question."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=_START_S)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process without the service ended")
        found: dict[str, Any] = json.loads(line)
        return found


def _environment(folder: Path) -> dict[str, str]:
    """One thread for tensors, nobody's settings, and caches that a short warm-up fills."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "INTRINSIC_MANAGER__MAX_LOADED": str(MAX_LOADED),
        "INTRINSIC_MANAGER__MAX_RECEIPTS": "100",
        "INTRINSIC_BUS__INJECTION_LOG_SIZE": "100",
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise RuntimeError(f"the server does not answer:\n{log.read_text()}")
