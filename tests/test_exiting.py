"""A process does not end while one of its threads is in native code."""

from __future__ import annotations

import subprocess
import sys

import pytest

WORKS_ON = """
import sys, threading
import intrinsic.exiting

def work():
    with intrinsic.exiting.exit_waits():
        begun.set()
        sys.stdin.readline()
        print("finished", flush=True)

begun = threading.Event()
threading.Thread(target=work, daemon=True).start()
begun.wait()
print("main has ended", flush=True)
"""

GENERATES_ON = """
import sys, threading
import anyio
from intrinsic.backends.transformers_backend import TransformersBackend
from tests.tiny import llama, tokenizer

model = llama()
begun = threading.Event()

def slow(module, args):
    if not begun.is_set():
        begun.set()
        sys.stdin.readline()
        print("finished", flush=True)

model.lm_head.register_forward_pre_hook(slow)
backend = TransformersBackend(model, tokenizer())

threading.Thread(target=lambda: anyio.run(backend.generate, "abc"), daemon=True).start()
begun.wait()
print("main has ended", flush=True)
"""


def ends(source: str, answer: str | None, timeout_s: float = 120) -> tuple[int, list[str]]:
    """Run a program whose thread waits for a line; `answer` comes when its main part has ended."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = [process.stdout.readline().strip()]
        if answer is not None:
            process.stdin.write(answer)
            process.stdin.flush()
        lines += process.stdout.read().split("\n")
        return process.wait(timeout_s), [line for line in lines if line]


@pytest.mark.parametrize("source", [WORKS_ON, GENERATES_ON], ids=["a thread", "a generation"])
def test_what_a_thread_began_is_finished_before_the_process_ends(source: str) -> None:
    assert ends(source, "go on\n") == (0, ["main has ended", "finished"])


def test_a_thread_that_never_comes_back_is_left_behind() -> None:
    source = WORKS_ON.replace(
        "begun = threading.Event()", "begun = threading.Event()\nintrinsic.exiting.LONGEST_S = 0.1"
    )
    code, lines = ends(source, None)
    assert (code, lines) == (0, ["main has ended"])


def test_a_forked_process_waits_for_nobody() -> None:
    source = (
        WORKS_ON
        + """
import os
if not os.fork():
    print(intrinsic.exiting._working, flush=True)
    os._exit(0)
os.wait()
"""
    )
    code, lines = ends(source, "go on\n")
    assert (code, sorted(lines)) == (0, ["0", "finished", "main has ended"])
