"""What was trained is registered with its provenance; a taken number is told before it begins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from intrinsic.errors import RegistryError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.registering import found_in
from intrinsic.registry.store.records import VersionRecord
from tests.cli.running import printed, refuses, run
from tests.training.given import write_base, write_rows

OPTIONS = ["--lr", "0.01", "--batch-tokens", "160", "--epochs", "1", "--rank", "4"]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_base(folder / "base")
    write_rows(folder / "rows.jsonl")
    return folder


def arguments(given: Path, adapters: Path, *others: str) -> list[str]:
    fixed = ["--base", given / "base", "--data", given / "rows.jsonl", "--name", "mine"]
    return [str(one) for one in ["train", *fixed, *OPTIONS, "--adapters-dir", adapters, *others]]


def record_of(registry: Path, key: str) -> VersionRecord:
    async def get() -> VersionRecord:
        async with AdapterCatalog(registry) as catalog:
            return await catalog.get(key)

    return anyio.run(get)


def test_it_is_registered_beside_the_folder_of_adapters(given: Path, tmp_path: Path) -> None:
    adapters, registry = tmp_path / "adapters", tmp_path / "adapters.db"
    found: dict[str, Any] = printed(*arguments(given, adapters))
    record = record_of(registry, "mine")
    assert found["registered"] == {"id": record.id, "active": True}
    assert (record.path, record.trained_here) == (adapters / "mine-1.0.0", True)
    assert record.provenance is not None
    assert record.provenance.as_json() == found["provenance"]
    signature = found_in(record.inspection)[1]
    assert signature is not None
    assert signature.model_type == "llama"
    second = run(*arguments(given, adapters, "--version", "1.1.0"))
    assert f"mine@1.1.0 is registered in {registry}, and not active" in second.stderr


def test_a_taken_number_is_told_before_anything_is_trained(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, elsewhere = tmp_path / "r.db", tmp_path / "elsewhere"
    at = ["--registry", str(registry)]
    printed(*arguments(given, tmp_path / "adapters", *at))
    words = "the next free version is '1.0.1'"
    refuses(monkeypatch, capsys, arguments(given, elsewhere, *at), words)
    assert not elsewhere.exists()


def test_without_a_registry_there_is_a_folder_alone(given: Path, tmp_path: Path) -> None:
    found = printed(*arguments(given, tmp_path / "adapters", "--no-register"))
    assert found["registered"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["adapters"]


def test_a_registry_that_fails_leaves_the_adapter_and_says_how_to_go_on(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RegistryError("the disk is full")

    monkeypatch.setattr(AdapterCatalog, "register", fail)
    folder = tmp_path / "adapters" / "mine-1.0.0"
    words = f"the disk is full; do that with 'intrinsic adapters register {folder}'"
    refuses(monkeypatch, capsys, arguments(given, tmp_path / "adapters"), words)
    assert json.loads((folder / "provenance.json").read_text())["trainer"] == "intrinsic train"


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['peft'] = None; from intrinsic.cli import main; main()"
    given = ["train", "--base", "b", "--data", "d", "--name", "n", "--registry", tmp_path / "r.db"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'intrinsic-lora[train]'" in done.stderr
    assert "Traceback" not in done.stderr
