"""What the page on agents shows of the service runs, with the frameworks' own clients."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docs import ROOT, blocks

EXAMPLES = list(blocks(ROOT / "docs" / "agents.md", "py"))
SERVE = "from intrinsic.cli import main; main()"
LONGEST_S = 120.0


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The service over the bundled model in its own process, and what points clients at it."""
    folder = tmp_path_factory.mktemp("served")
    keys = folder / "keys.json"
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    served = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", "--port", str(port), "--key-file", str(keys)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert served.stdout is not None
        said: list[str] = []
        while not any(str(port) in line for line in said):  # it listens
            line = served.stdout.readline()
            assert line, "".join(said)
            said.append(line)
        yield {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "OPENAI_API_KEY": json.loads(keys.read_text())["api_key"],
        }
        served.send_signal(signal.SIGTERM)
        served.communicate(timeout=LONGEST_S)
        assert served.returncode == 0
    finally:
        served.kill()
        served.communicate()


def test_what_an_example_imports_is_said_to_be_installed() -> None:
    page = (ROOT / "docs" / "agents.md").read_text()
    for section in page.split("\n### ")[1:]:
        said = " ".join(re.findall(r"`pip install ([^`]+)`", section))
        for module in re.findall(
            r"^from ((?:pydantic_ai|lang\w+|openai)[\w.]*) import", section, re.M
        ):
            names = module.replace("_core", "").replace("_", "-").split(".")
            wanted = [names[0], *(name for name in names[1:] if name == "openai")]
            assert all(name in said for name in wanted), (module, said)


def test_there_is_an_example_for_each_client() -> None:
    named = ("from openai", "from pydantic_ai", "from langgraph", "from langchain_openai")
    assert all(any(name in example for example in EXAMPLES) for name in named)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # examples leave their clients open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_examples_run(
    number: int,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(EXAMPLES[number], "<example>", "exec"), names)
    names.clear()
    gc.collect()  # here, and not in a test to come, for which an open client is an error
    assert capsys.readouterr().out.strip()
