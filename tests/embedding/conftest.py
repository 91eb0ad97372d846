"""Models and adapters that all tests of a run share; nobody changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from intrinsic.registry import AdapterRegistry
from tests.embedding import small


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain BERT."""
    return small.bert(tmp_path_factory.mktemp("encoder") / "bert")


@pytest.fixture(scope="session")
def lora(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """An adapter for it."""
    return small.adapter(tmp_path_factory.mktemp("lora") / "lora", model)


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A folder of three more: a0, a1, a2."""
    folder = tmp_path_factory.mktemp("several")
    for number in range(3):
        small.adapter(folder / f"a{number}", model, seed=10 + number)
    return folder


@pytest.fixture
def registry(several: Path) -> AdapterRegistry:
    """A registry of the three."""
    return AdapterRegistry.from_folder(several)
