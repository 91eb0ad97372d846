"""A folder examined: what is read from it, what is said of it, and what refuses it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from intrinsic.errors import CheckpointError, ConfigError, UnsupportedAdapterError
from intrinsic.registry.inspection import digest_of, inspect
from intrinsic.registry.provenance import Provenance, TrainingData
from intrinsic.registry.registering import Newcomer, examine, found_in, signature_of
from tests.registry.cataloguing import adapter
from tests.tiny import llama

CONFIG = llama().config.to_dict()


def model(folder: Path) -> Path:
    """A folder of a base model, without its weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_what_is_not_said_is_read_from_the_files(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "sql", base_model_name_or_path="org/base")
    (folder / "card.toml").write_text('version = 2\ndomain = "Coding"\nexamples = ["count"]\n')
    found = examine(Newcomer(folder))
    assert (found.key, found.card.domain, found.card.examples) == ("sql@2", "Coding", ("count",))
    assert (found.path, found.base_model) == (folder.resolve(), "org/base")
    assert (found.digest, found.bytes) == (digest_of(folder), inspect(folder).bytes)
    assert not any((found.active, found.copied, found.trained_here, found.is_deleted))
    assert found.provenance is None
    inspection, signature = found_in(found.inspection)
    assert inspection == inspect(folder)
    assert signature is None
    assert found.id != examine(Newcomer(folder)).id


def test_what_is_said_wins(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "sql", base_model_name_or_path="org/base", domain="Coding")
    found = examine(
        Newcomer(
            folder,
            name="law",
            version="7",
            base_model="org/other",
            domain="",
            description="of contracts",
            keywords=["clause"],
            examples=["read it"],
        )
    )
    assert (found.key, found.card.domain, found.base_model) == ("law@7", "", "org/other")
    assert (found.card.description, found.card.keywords) == ("of contracts", ("clause",))
    assert found.card.examples == ("read it",)
    assert found_in(found.inspection)[0].base_model == "org/other"


def test_the_training_is_found_and_names_the_base_model(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "sql")
    trained = Provenance(
        trainer="intrinsic train", base_model="org/base", data=TrainingData("rows", rows=3)
    )
    (folder / "provenance.json").write_text(json.dumps(trained.as_json()))
    found = examine(Newcomer(folder))
    assert found.provenance == trained
    assert found.trained_here
    assert found.base_model == "org/base"
    elsewhere = replace(trained, trainer="peft", base_model="")
    found = examine(Newcomer(folder, provenance=elsewhere))
    assert (found.provenance, found.trained_here, found.base_model) == (elsewhere, False, "")
    (folder / "provenance.json").write_text("{")
    with pytest.raises(ConfigError, match=r"provenance\.json cannot be read"):
        examine(Newcomer(folder))


def test_a_base_model_that_is_a_folder_says_what_kind_of_model_it_is(tmp_path: Path) -> None:
    base = str(model(tmp_path / "base"))
    found = examine(Newcomer(adapter(tmp_path / "sql"), base_model=base))
    inspection, signature = found_in(json.loads(json.dumps(dict(found.inspection))))
    assert inspection.base_model == base
    assert signature == signature_of(base)
    assert signature is not None
    assert signature.model_type == "llama"


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 100_000, "\xff"])
def test_a_base_model_that_cannot_be_read_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    assert signature_of(str(tmp_path)) is None


@pytest.mark.parametrize("name", ["", "org/none", "~nobody-of-this-name/x", "a\0b", "x" * 5_000])
def test_a_name_is_no_folder(name: str) -> None:
    assert signature_of(name) is None


def test_unsound_files_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "sql")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    wrong: dict[str, object] = {"name": "a@b", "version": "", "keywords": "one, two"}
    for field, value in wrong.items():
        with pytest.raises(ConfigError, match=field):
            examine(replace(Newcomer(folder), **{field: value}))  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    adapter(folder, peft_type="IA3")
    with pytest.raises(UnsupportedAdapterError):
        examine(Newcomer(folder))
    adapter(folder, r=8)
    with pytest.raises(CheckpointError, match=r"rank 4 .* declares 8"):
        examine(Newcomer(folder))
    (adapter(folder) / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        examine(Newcomer(folder))


def test_a_path_that_is_no_folder_is_said(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    file.touch()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    said = {
        file: "is a file; name the folder",
        tmp_path / "none": "does not exist; name the folder",
        Path("~nobody-of-this-name/x"): "cannot be found",
        Path("a\0b"): "cannot be found",
        loop: "cannot be found|does not exist",
        tmp_path: r"no adapter_config\.json",
    }
    for path, why in said.items():
        with pytest.raises((CheckpointError, ConfigError), match=why):
            examine(Newcomer(path))


def test_a_link_to_a_folder_is_followed_once(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "real")
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert examine(Newcomer(link)).path == folder.resolve()
