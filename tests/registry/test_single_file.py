"""One safetensors file and its config become a folder, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from intrinsic.errors import (
    AdapterError,
    AdapterExistsError,
    CheckpointError,
    UnsupportedAdapterError,
)
from intrinsic.registry import single_file
from intrinsic.registry.inspection import inspect
from intrinsic.registry.single_file import from_single_file
from tests.tiny import llama, write_adapter


def loose(folder: Path, config: str = "sql.json", **settings: object) -> Path:
    """A file `sql.safetensors` with its config under the name `config`."""
    made = write_adapter(folder, llama(), **settings)  # type: ignore[arg-type]
    (made / "adapter_config.json").rename(made / config)
    return (made / "adapter_model.safetensors").rename(made / "sql.safetensors")


def refused(weights: Path, config: Path | None, into: Path, why: str) -> AdapterError:
    top = weights.parents[1]
    before = sorted(top.rglob("*"))
    with pytest.raises(AdapterError, match=why) as caught:
        from_single_file(weights, config, into)
    assert sorted(top.rglob("*")) == before
    assert ".tmp" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", ["sql.json", "adapter_config.json"])
def test_the_config_is_found_beside_it(tmp_path: Path, name: str) -> None:
    weights = loose(tmp_path / "files", name)
    made = from_single_file(weights, None, tmp_path / "new" / "sql")
    assert made == tmp_path / "new" / "sql"
    assert sorted(path.name for path in made.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert inspect(made).modules
    assert (made / "adapter_model.safetensors").read_bytes() == weights.read_bytes()
    assert [path.name for path in made.parent.iterdir()] == ["sql"]


def test_the_config_of_its_own_name_comes_first(tmp_path: Path) -> None:
    weights = loose(tmp_path / "files", base_model_name_or_path="its own")
    other = json.loads((weights.parent / "sql.json").read_text())
    other["base_model_name_or_path"] = "everybody's"
    (weights.parent / "adapter_config.json").write_text(json.dumps(other))
    assert inspect(from_single_file(weights, None, tmp_path / "a")).base_model == "its own"


def test_the_config_may_lie_elsewhere(tmp_path: Path) -> None:
    weights = loose(tmp_path / "files")
    config = (weights.parent / "sql.json").rename(tmp_path / "any name")
    assert inspect(from_single_file(weights, config, tmp_path / "a")).modules


def test_without_a_config_it_is_refused(tmp_path: Path) -> None:
    weights = loose(tmp_path / "files", "other.json")
    refused(weights, None, tmp_path / "a", r"neither sql\.json nor adapter_config\.json lies")
    refused(weights, tmp_path / "no.json", tmp_path / "a", r"no\.json does not exist")
    refused(weights, tmp_path, tmp_path / "a", "is no plain file")


def test_only_a_safetensors_file_will_do(tmp_path: Path) -> None:
    weights = loose(tmp_path / "files")
    for name, why in (
        ("sql.bin", r"sql\.bin is a pickle, which can run code"),
        ("sql.txt", r"sql\.txt is no \.safetensors file"),
        ("gone.safetensors", r"gone\.safetensors does not exist"),
    ):
        refused(weights.with_name(name), None, tmp_path / "a", why)
    os.mkfifo(weights.with_name("pipe.safetensors"))
    refused(weights.with_name("pipe.safetensors"), None, tmp_path / "a", "is no plain file")


def test_unsound_files_leave_nothing_and_are_named(tmp_path: Path) -> None:
    weights = loose(tmp_path / "files", r=4)
    settings = json.loads((weights.parent / "sql.json").read_text())
    config = tmp_path / "config.json"
    config.write_text(json.dumps(settings | {"r": 8}))
    error = refused(weights, config, tmp_path / "new" / "folder" / "a", r"rank 4.*declares 8")
    assert str(weights) in str(error)
    config.write_text(json.dumps(settings | {"peft_type": "LOHA"}))
    error = refused(weights, config, tmp_path / "a", r"config\.json: peft_type is 'LOHA'")
    assert isinstance(error, UnsupportedAdapterError)
    config.write_text("no json")
    assert str(config) in str(refused(weights, config, tmp_path / "a", "cannot be read as JSON"))
    weights.write_bytes(weights.read_bytes()[:100])
    error = refused(weights, None, tmp_path / "a", r"sql\.safetensors is not a sound")
    assert isinstance(error, CheckpointError)


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    weights = loose(tmp_path / "files")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "card.toml").write_text("")
    assert isinstance(refused(weights, None, tmp_path / "a", "exists already"), AdapterExistsError)
    (tmp_path / "b").symlink_to(tmp_path / "gone")
    refused(weights, None, tmp_path / "b", "exists already")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    weights = loose(tmp_path / "files")
    (tmp_path / "file").write_text("")
    refused(weights, None, tmp_path / "file" / "a", r"cannot be copied to .*Not a dir")


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    weights = loose(tmp_path / "files")
    monkeypatch.setattr(single_file, "inspect", interrupt)
    with pytest.raises(KeyboardInterrupt):
        from_single_file(weights, None, tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["files"]
