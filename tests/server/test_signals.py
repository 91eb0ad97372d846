"""Signals are obeyed from before the model is loaded until after everything is closed."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from intrinsic.config import load_settings
from intrinsic.errors import ConfigError
from intrinsic.server import run
from intrinsic.server.run import Prepared, run_service
from intrinsic.system import System
from tests.server.serving import KEYS, tiny_system


def serve(folder: Path, ready: Any) -> None:
    flags = {"server.stats_file": str(folder / "stats.json"), "server.grace_s": 1.0}
    settings = load_settings(flags, environ={}, cwd=folder)
    taken = socket.create_server(("127.0.0.1", 0))
    prepared = Prepared(taken, KEYS, new_keys=False, key_file=None)
    anyio.run(partial(run_service, settings, prepared, ready=ready))


async def send(number: int) -> None:
    os.kill(os.getpid(), number)
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    closed: list[str] = []

    @asynccontextmanager
    async def slow(settings: object, **_: object) -> AsyncIterator[System]:
        try:
            await send(number)
            await anyio.sleep_forever()
            yield  # type: ignore[misc]
        finally:
            closed.append("start")

    monkeypatch.setattr(run, "open_system", slow)
    serve(tmp_path, closed.append)
    assert closed == ["start"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_another_signal_while_all_is_closed_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    @asynccontextmanager
    async def slow(settings: object, **_: object) -> AsyncIterator[System]:
        async with tiny_system(tmp_path) as system:
            yield system
        await send(number)

    monkeypatch.setattr(run, "open_system", slow)
    serve(tmp_path, lambda _: os.kill(os.getpid(), number))
    assert json.loads((tmp_path / "stats.json").read_text())["requests"] == 0


def test_what_cannot_be_opened_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def broken(settings: object, **_: object) -> AsyncIterator[System]:
        raise ConfigError("no such model")
        yield

    monkeypatch.setattr(run, "open_system", broken)
    with pytest.raises(ConfigError, match="no such model"):
        serve(tmp_path, print)
