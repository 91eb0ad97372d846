"""The session of docs/registry.md: every command gives what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from intrinsic.cli import main
from intrinsic.cli.registry_commands import COMMANDS
from tests.registry.cataloguing import KEY, adapter
from tests.tiny import write_files

PAGE = Path(__file__).parents[2] / "docs" / "registry.md"
HOME = "/srv/team"
LOOP = re.compile(r"for vote in (?P<votes>[\d ]+); do (?P<command>.*?) > /dev/null; done")


def session() -> Iterator[tuple[str, str]]:
    """Commands and what they print, on both streams."""
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def without_what_differs(text: str, folder: Path) -> str:
    """Times, ids and digests are others each time; the folder is the reader's."""
    text = text.replace(str(folder.resolve()), HOME)
    day = r"\d{4}-\d\d-\d\d"
    text = re.sub(rf"{day}T\d\d:\d\d:\d\d\+00:00", "2026-11-21T09:30:00+00:00", text)
    text = re.sub(rf"{day} \d\d:\d\d UTC", "2026-11-21 09:30 UTC", text)
    text = re.sub(r"\b[0-9a-f]{32,64}\b", "3f09c1…", text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def made(folder: Path) -> None:
    """The folder that the page begins with."""
    for name, version, domain in (
        ("sql", "1.0.0", "data"), ("sql", "1.1.0", "data"), ("recipes", "1.0.0", "cooking"),
    ):  # fmt: skip
        here = write_files(
            folder / "adapters" / f"{name}-{version}",
            {
                f"{KEY}.lora_A.weight": torch.ones(16, 1024),
                f"{KEY}.lora_B.weight": torch.ones(1024, 16),
            },
            r=16,
            target_modules=["q_proj"],
            base_model_name_or_path="org/base-1b",
        )
        (here / "card.toml").write_text(
            f'name = "{name}"\nversion = "{version}"\ndomain = "{domain}"\n'
        )
    (adapter(folder / "adapters" / "half") / "adapter_model.safetensors").unlink()


def said(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command prints, on standard output and then on standard error."""
    if not command.startswith("intrinsic "):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_the_session_is_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTRINSIC_REGISTRY", raising=False)
    made(tmp_path)
    commands = list(session())
    assert len(commands) > 10
    for command, expected in commands:
        loop = LOOP.fullmatch(command)
        if loop:
            for _ in loop["votes"].split():
                said(loop["command"], capsys, monkeypatch)
        else:
            found = without_what_differs(said(command, capsys, monkeypatch), tmp_path)
            assert found == expected, command


def test_every_command_of_the_registry_is_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    for name in COMMANDS:
        assert f"| `{name}" in page, f"docs/registry.md has no row for {name}"
