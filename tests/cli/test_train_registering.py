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
from tests.cli.test_train import arguments, given
from tests.training.given import write_rows

__all__ = ["given"]  # a fixture


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


@pytest.mark.parametrize("flag", [False, True])
def test_folder_and_registry_of_the_settings_are_used_unless_flags_say_others(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTRINSIC_REGISTRY", str(tmp_path / "team.db"))
    words = arguments(given, tmp_path / "flag")
    if not flag:
        at = words.index("--adapters-dir")
        del words[at : at + 2]
    printed(*words)
    record = record_of(tmp_path / ("flag.db" if flag else "team.db"), "mine")
    assert record.path == tmp_path / ("flag" if flag else "adapters") / "mine-1.0.0"
    assert (tmp_path / "team.db").exists() is not flag


def test_adapters_are_made_where_the_settings_have_them(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "intrinsic.toml").write_text('adapters = "tuned"\n')
    words = arguments(given, tmp_path)
    at = words.index("--adapters-dir")
    del words[at : at + 2]
    printed(*words)
    assert record_of(tmp_path / "tuned.db", "mine").path == tmp_path / "tuned" / "mine-1.0.0"


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


def test_without_the_extra_it_says_what_to_install(given: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['peft'] = None; from intrinsic.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments(given, tmp_path / "adapters")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'intrinsic-lora[train]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("taken", [False, True])
def test_bad_rows_and_taken_numbers_are_told_without_torch(
    given: Path, tmp_path: Path, taken: bool
) -> None:
    adapters = tmp_path / "adapters"
    if taken:
        printed(*arguments(given, adapters))
    else:
        write_rows(tmp_path / "rows.jsonl", ["nope"])
    data = given if taken else tmp_path
    code = "import sys; sys.modules['torch'] = None; from intrinsic.cli import main; main()"
    more = ["--data", str(data / "rows.jsonl")]
    command = [sys.executable, "-c", code, *arguments(given, adapters, *more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    words = "the next free version is '1.0.1'" if taken else "line 1"
    assert words in done.stderr
