"""`ask` and `route` with the adapters of a registry instead of a folder's."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from intrinsic.bundled import BUNDLED_NAME, adapters_path
from intrinsic.cli.registry_place import VARIABLE
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.registering import Newcomer
from tests.cli.running import printed, refuses, run

QUESTION = "how is asthma treated"


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """The bundled adapters, of which `medical` was switched off."""

    async def make() -> Path:
        file = tmp_path / "adapters.db"
        async with AdapterCatalog(file) as catalog:
            for folder in sorted(adapters_path().iterdir()):
                if (folder / "adapter_config.json").exists():
                    await catalog.register(Newcomer(folder))
            await catalog.deactivate("medical")
        return file

    return anyio.run(make)


async def _activate(file: Path) -> None:
    async with AdapterCatalog(file) as catalog:
        await catalog.activate("medical")


def test_route_chooses_among_the_active_versions(registry: Path) -> None:
    off = printed("route", QUESTION, "--registry", registry)
    assert "medical" not in json.dumps(off["selections"])
    anyio.run(_activate, registry)
    on = printed("route", QUESTION, "--registry", registry)
    assert [one["adapter"] for one in on["selections"]] == ["medical"]


def test_ask_uses_an_active_version_and_notes_it(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anyio.run(_activate, registry)
    monkeypatch.setenv(VARIABLE, str(registry))
    said = printed("ask", QUESTION, "--max-tokens", "5")
    assert said["mixture"] == {"medical@1.0.0": 1.0}

    async def used() -> tuple[int, int]:
        async with AdapterCatalog(registry) as catalog:
            version_id = catalog.id_of("medical@1.0.0")
            assert version_id is not None
            found = (await catalog.usage.usage_of([version_id]))[version_id]
            return found.routed, found.generated

    assert anyio.run(used) == (1, 1)


def test_a_registry_that_is_not_there_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "no.db"
    given = ["route", QUESTION, "--registry", str(missing)]
    refuses(monkeypatch, capsys, given, "intrinsic adapters register")
    assert not missing.exists()


def test_a_folder_and_a_registry_are_one_too_many(
    registry: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = ["--registry", str(registry), "--adapters-dir", str(tmp_path)]
    refuses(monkeypatch, capsys, ["route", QUESTION, *both], "use one of them")


def test_a_folder_that_is_named_counts_more_than_the_environment(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(registry))
    said = printed("route", QUESTION, "--adapters-dir", adapters_path())
    assert [one["adapter"] for one in said["selections"]] == ["medical"]


def test_a_registry_beside_the_folder_that_is_named_is_used(registry: Path) -> None:
    folder = registry.with_suffix("")
    folder.mkdir()  # the registry lies at `folder.db`
    off = printed("route", QUESTION, "--adapters-dir", folder)
    assert "medical" not in json.dumps(off["selections"])
    anyio.run(_activate, registry)
    on = printed("route", QUESTION, "--adapters-dir", folder)
    assert [one["adapter"] for one in on["selections"]] == ["medical"]


def test_a_registry_in_this_folder_that_nobody_named_is_mentioned(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(registry.parent)
    told = run("route", QUESTION)
    assert "name --registry adapters.db" in told.stderr
    assert "medical" in told.stdout  # of the bundled ones
    monkeypatch.setenv(VARIABLE, str(registry))
    assert "name --registry" not in run("route", QUESTION).stderr


def test_the_bundled_model_has_a_name() -> None:
    said = printed("ask", QUESTION, "--model", BUNDLED_NAME, "--adapters-dir", adapters_path(),
                   "--max-tokens", "3")  # fmt: skip
    assert said["mixture"] == {"medical@1.0.0": 1.0}
