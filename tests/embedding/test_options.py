"""What can be set is checked when it is set, one sentence per fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intrinsic.embedding import EmbeddingOptions, InstructionForms
from intrinsic.errors import ConfigError


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def without_weights(folder: Path) -> Path:
    (empty(folder) / "adapter_config.json").write_text("{}")
    return folder


def sound(folder: Path) -> Path:
    (without_weights(folder) / "adapter_model.safetensors").write_bytes(b"")
    return folder


def a_file(folder: Path) -> Path:
    folder.write_text("")
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder, "does not exist; name a folder that PEFT's save_pretrained wrote"),
        (a_file, "is no directory; name the folder that holds adapter_config.json"),
        (empty, "has no adapter_config.json; name a folder that PEFT's save_pretrained wrote"),
        (without_weights, "has no adapter_model.safetensors; save the adapter with safetensors"),
    ],
)
def test_each_fault_of_the_path_has_its_sentence(
    make: Callable[[Path], Path], said: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "lora")
    with pytest.raises(ConfigError) as refused:
        EmbeddingOptions(lora_adapter_path=path)
    assert f"lora_adapter_path {path} {said}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    sound(tmp_path / "lora")
    assert EmbeddingOptions(lora_adapter_path="~/lora").lora_adapter_path == tmp_path / "lora"


def test_a_home_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="~nobody-here/lora cannot be found"):
        EmbeddingOptions(lora_adapter_path="~nobody-here/lora")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pooling": "max"}, "pooling is 'max'; valid: auto, mean, cls, last"),
        ({"padding_side": "top"}, "padding_side is 'top'; valid: auto, left, right"),
        ({"dtype": "int8"}, "dtype is 'int8'; valid: auto, float32, bfloat16, float16"),
        ({"on_adapter_error": "skip"}, "on_adapter_error is 'skip'; valid: raise, base"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"batch_tokens": 0}, "batch_tokens is 0; it must be at least 1"),
        ({"max_length": 4}, "max_length is 4; it must be at least 8"),
        ({"max_loaded": 0}, "max_loaded is 0; it must be at least 1"),
        ({"max_pieces": 0}, "max_pieces is 0; it must be at least 1"),
        ({"cached_texts": -1}, "cached_texts is -1; it must be at least 0"),
        ({"scaling": float("nan")}, "scaling is nan; it must be a finite number"),
        ({"busy_timeout_s": 0}, "busy_timeout_s is 0; it must be above 0"),
        ({"batch_size": "8"}, "batch_size is '8'; it must be a whole number"),
        ({"batch_size": None}, "batch_size is None; it must be a whole number"),
        ({"batch_tokens": 2.5}, "batch_tokens is 2.5; it must be a whole number"),
        ({"max_length": True}, "max_length is True; it must be a whole number"),
        ({"scaling": "2"}, "scaling is '2'; it must be a number"),
        ({"busy_timeout_s": None}, "busy_timeout_s is None; it must be a number"),
        ({"model": 5}, "model is 5; it must be a folder or a hub name"),
        ({"lora_adapter_path": ["a"]}, "lora_adapter_path is ['a']; it must be a folder"),
        ({"device": None}, "device is None; it must be a device of torch"),
        ({"task": ["x"]}, "task is ['x']; it must be a task of the instructions"),
        ({"normalize": "no"}, "normalize is 'no'; it must be true or false"),
        ({"local_files_only": 1}, "local_files_only is 1; it must be true or false"),
        ({"model": " "}, "model is empty"),
        ({"lora_adapter_path": ""}, "lora_adapter_path is empty"),
        ({"task": "rank"}, "task is 'rank'; known tasks: none"),
        ({"instructions": ["q"]}, "instructions is ['q']; it must be a table"),
        ({"instructions": {"rank": {"document": "d"}}}, "they must be a table with query and"),
        ({"instructions": {"rank": {"query": 1}}}, "the query form of an instruction is 1"),
    ],
)
def test_each_other_fault_has_its_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        EmbeddingOptions(**given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    folder = sound(tmp_path / "lora")
    with pytest.raises(ConfigError, match="is an adapter, not a model; name it as"):
        EmbeddingOptions(model=folder)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "x"}))
    (folder / "config.json").write_text("{}")
    assert EmbeddingOptions(model=folder).model == folder


def test_a_task_gives_its_prefixes_and_a_literal_one_is_itself() -> None:
    options = EmbeddingOptions(
        instructions={"search": InstructionForms("query: ", "passage: ")}, task="search"
    )
    assert options.prefix(None) == options.prefix("search") == "query: "
    assert options.prefix(None, "passage") == options.prefix("search", "passage") == "passage: "
    assert options.prefix("Find this: ") == "Find this: "
    assert options.prefix("") == ""
    with pytest.raises(ConfigError, match=r"unknown task 'serach'; did you mean 'search'\?"):
        options.prefix("serach")
    with pytest.raises(ConfigError, match="form is 'pasage'; valid: query, passage"):
        options.prefix("search", "pasage")  # type: ignore[arg-type]


def test_a_whole_number_scales_and_a_name_may_be_long() -> None:
    assert type(EmbeddingOptions(model="x" * 5000, scaling=2).scaling) is float


def test_a_files_table_is_read_as_forms() -> None:
    table: Any = {"search": {"query": "q: "}}
    assert EmbeddingOptions(instructions=table).instructions == {"search": InstructionForms("q: ")}


def test_importing_the_package_imports_no_tensor_library() -> None:
    code = (
        "import sys, intrinsic.embedding\n"
        "print([n for n in ('torch', 'transformers', 'peft') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
