"""How commands end: quietly where the reader has left, in one sentence for what is at fault."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from intrinsic import hookimpl
from intrinsic.cli import ending, main
from intrinsic.cli.app import app
from intrinsic.cli.ending import run_command
from intrinsic.cli.output import OurConsole, OutputClosedError, print_table, write
from intrinsic.errors import BackendError, ConfigError
from intrinsic.plugins import PluginManager
from tests.tiny import llama, tokenizer


@contextmanager
def closed_pipe() -> Iterator[None]:
    """Standard output as `| true` leaves it."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    try:
        with redirect_stdout(stream):
            yield
    finally:
        with suppress(BrokenPipeError):
            stream.close()


def test_a_reader_that_has_left_ends_the_command_quietly(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with closed_pipe():
        assert run_command(lambda: write("piece", end="")) == 141
    assert capfd.readouterr().err == ""


def test_so_it_does_for_tables_and_consoles_and_what_is_still_buffered() -> None:
    for command in (
        lambda: print_table("t", ("a",), [("b",)]),
        lambda: OurConsole().print("x"),
        lambda: print("buffered"),
    ):
        with closed_pipe():
            assert run_command(command) == 141


def test_errors_in_groups_are_told_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ExceptionGroup("", [BackendError("one"), ExceptionGroup("", [ConfigError("two")])])

    assert run_command(fail) == 1
    assert capsys.readouterr().err == "intrinsic: one\nintrinsic: two\n"


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def fail() -> None:
        raise ExceptionGroup("", [BackendError("one"), ZeroDivisionError()])

    with pytest.raises(ExceptionGroup):
        run_command(fail)


def test_exit_codes_are_passed_on() -> None:
    assert run_command(lambda: None) == 0
    assert run_command(lambda: sys.exit(2)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is simulated by /dev/full")
def test_a_full_disk_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for command in (lambda: write("x"), lambda: print("x")):
        with open("/dev/full", "w") as full:
            monkeypatch.setattr(sys, "stdout", full)
            assert run_command(command) == 1
        assert capfd.readouterr().err == "intrinsic: [Errno 28] No space left on device\n"


def test_what_the_terminal_cannot_show_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["intrinsic", "plugins", "--plugins", "/café"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    write("café")
    assert stream.buffer.getvalue().endswith(b"caf?\n")


def test_a_broken_plugin_of_commands_costs_a_line_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        @hookimpl
        def register_commands(self, app: object) -> None:
            raise ZeroDivisionError("oops")

    def load(self: PluginManager) -> list[str]:
        self.register(Broken(), "broken")
        return []

    monkeypatch.setattr(PluginManager, "load_entry_points", load)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys, "argv", ["intrinsic", "plugins", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("intrinsic: ")
    assert "ZeroDivisionError: oops" in told[0]


def test_an_empty_answer_is_an_answer(tmp_path: Path) -> None:
    import torch

    model = llama()
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.generation_config.suppress_tokens = [0, 1, *range(3, 97)]
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    asked = ["ask", "hi", "--model", str(tmp_path), "--router", "keyword"]
    assert CliRunner().invoke(app, asked).stdout == "\n"
    assert '"answer": ""' in CliRunner().invoke(app, [*asked, "--json"]).stdout


def test_leaving_a_streamed_answer_stops_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intrinsic.backends.row import Row
    from intrinsic.cli import ask

    llama().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    ended: list[bool] = []
    end = Row.end

    def noted(row: Row) -> None:
        ended.append(row.job.cancelled.is_set())
        end(row)

    def closed(text: str, *, end: str = "\n") -> None:
        raise OutputClosedError

    monkeypatch.setattr(Row, "end", noted)
    monkeypatch.setattr(ask, "write", closed)
    monkeypatch.setattr(ending, "discard_output", lambda: None)  # it would take pytest's own
    asked = ["ask", "hi", "--model", str(tmp_path), "--router", "keyword", "--max-tokens", "40"]
    monkeypatch.setattr(sys, "argv", ["intrinsic", *asked])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 141
    assert ended == [True]


def test_the_demo_publishes_before_it_ranks() -> None:
    """So that the time of routing is that of a question that was not seen before."""
    import anyio

    from intrinsic.cli import demo
    from intrinsic.mixture import BASE
    from intrinsic.receipt import Receipt

    calls: list[str] = []

    class Fake:
        mixture = BASE

        async def publish(self, event: object) -> object:
            calls.append("publish")
            return SimpleNamespace(value=Receipt("r", route_ms=1.0), errors=())

        async def rank(self, query: str, candidates: object) -> list[object]:
            calls.append("rank")
            return []

        def list_adapters(self) -> list[object]:
            return []

        def lease(self, what: object) -> Fake:
            calls.append("lease")
            return self

        async def __aenter__(self) -> Fake:
            await anyio.lowlevel.checkpoint()
            return self

        async def __aexit__(self, *error: object) -> None:
            return None

        async def generate(self, question: str, options: object) -> object:
            return SimpleNamespace(text=" text ")

        async def score(self, question: str, answers: object) -> list[object]:
            return [SimpleNamespace(log_likelihood=-1.0)]

    fake = Fake()
    session: Any = SimpleNamespace(bus=fake, registry=fake, router=fake, manager=fake)
    step = anyio.run(demo._answer, session, "question", "reference")
    assert calls == ["publish", "rank", "lease", "lease"]
    assert step.receipt.route_ms == 1.0
    assert step.adapted.switch_ms > 0.0
