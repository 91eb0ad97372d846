"""`intrinsic serve` in a process of its own, over a tiny model on disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests import tiny

ROOT = Path(__file__).parents[2]
SERVE = "from intrinsic.cli import main; main()"
LONGEST_S = 120.0
_URL = re.compile(r"at (http://\S+)")


@dataclass
class Process:
    """A server that answers; `told` is what it said so far on standard error."""

    process: subprocess.Popen[str]
    url: str = ""
    told: list[str] = field(default_factory=list)

    def wait_until_it_answers(self) -> None:
        """Read what it says until it says where it listens, and how to ask."""
        while not (found := _URL.search(self.read_line())):
            pass
        self.url = found[1]

    def read_line(self) -> str:
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line, f"it ended: {self.told}"
        self.told.append(line.rstrip("\n"))
        return line

    def client(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=LONGEST_S)

    def stop(self) -> int:
        """Tell it to stop, and return its exit code; what it said last is in `told`."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        _, rest = self.process.communicate(timeout=LONGEST_S)
        self.told += rest.splitlines()
        return self.process.returncode


@contextmanager
def served(folder: Path, *options: object, **variables: str) -> Iterator[Process]:
    """Serve until the block ends; the settings are those of `folder`, and of `variables`."""
    given = [str(option) for option in ("--port", 0, *options)]
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", *given],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            one = Process(process)
            one.wait_until_it_answers()
            yield one
        finally:
            process.kill()


def model_and_adapters(folder: Path, names: str = "ab") -> Path:
    """Write a tiny model, adapters and the settings that serve them quickly."""
    model: Any = tiny.llama()
    model.config.max_position_embeddings = 512
    model.save_pretrained(folder / "model")
    tiny.tokenizer(chat=True).save_pretrained(folder / "model")
    for seed, name in enumerate(names, 1):
        card = {"name": name, "domain": name, "description": f"Answers what has the word {name}."}
        tiny.write_adapter(folder / "adapters" / name, model, seed=seed, card=card)
    (folder / "intrinsic.toml").write_text(
        'model = "model"\n[routing]\nrouter = "keyword"\n[server]\nkey_file = "own/keys.json"\n'
    )
    return folder
