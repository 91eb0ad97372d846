"""The benchmark of the registry runs and prints what it promises."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import main
from tests.registry.store import postgres


def test_the_registry_benchmark_prints_its_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "find_binaries", lambda: None)
    small = ["--adapters", "3", "--bytes", "1000", "--versions", "50"]
    assert main(["registry", "--json", *small, "--rounds", "1", "--requests", "50"]) == 0
    result = json.loads(capsys.readouterr().out)
    for key in ("register_per_s", "list_ms", "start_s", "statistics_ms"):
        assert result[key] == result["sqlite"][key] > 0
    assert result["sqlite"]["starting"]["adapter_files_opened"] == 0
    assert result["sqlite"]["noting"]["lost"] == 0
    assert "postgresql" not in result


def test_a_file_that_is_opened_at_the_start_would_be_seen() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from benchmarks import _registry_start as start;"
        "sys.addaudithook(start.listen);"
        "import pathlib, contextlib\n"
        "with contextlib.suppress(OSError): pathlib.Path('/nowhere/adapters/x').read_bytes()\n"
        "print(sum('/nowhere/' in path for path in start.opened))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
