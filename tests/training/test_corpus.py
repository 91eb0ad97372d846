"""Splits are the same every time, and nothing of one is in another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intrinsic.training import stdlib
from intrinsic.training.corpus import (
    DOMAINS,
    Row,
    base_share,
    dev_split,
    domain_rows,
    function_rows,
)

ROWS = [Row(f"row-{n}", f"q{n}", f"a{n}") for n in range(2000)]


@pytest.fixture
def small_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A standard library of thirty modules; one function has its twin in all modules."""
    for n in range(30):
        (tmp_path / f"mod{n}.py").write_text(
            f'def own_{n}(x):\n    """Return the argument plus {n}. More words."""\n'
            f"    return x + {n}\n\n"
            'def twin(x):\n    """Return the argument unchanged, always."""\n    return x\n\n'
            f"def _bare_name(x):\n    value = x * {n}\n    return value\n\n"
            "def same(x):\n    return x\n"
        )
    (tmp_path / "test").mkdir()
    hidden = 'def t():\n    """A test that nobody needs."""\n    return 1\n'
    (tmp_path / "test" / "secret.py").write_text(hidden)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    return tmp_path


def test_the_base_sees_few_of_the_rows_and_none_twice() -> None:
    chat, bare = base_share(ROWS)
    assert not {row.id for row in chat} & {row.id for row in bare}
    assert 0.03 < len(chat) / len(ROWS) < 0.07
    assert 0.07 < len(bare) / len(ROWS) < 0.13


def test_the_rows_to_choose_by_are_apart_from_those_to_train_on() -> None:
    train, dev = dev_split(ROWS)
    assert {row.id for row in train} | {row.id for row in dev} == {row.id for row in ROWS}
    assert not {row.id for row in train} & {row.id for row in dev}
    assert 0.02 < len(dev) / len(ROWS) < 0.06


def test_the_share_does_not_depend_on_order() -> None:
    assert set(base_share(ROWS)[0]) == set(base_share(ROWS[::-1])[0])


def test_modules_are_split_the_same_way_every_time() -> None:
    assert stdlib.bucket("json") == stdlib.bucket("json")
    splits = [stdlib.module_split(f"module{n}") for n in range(400)]
    assert 20 < splits.count("valid") < 90


@pytest.mark.usefixtures("small_library")
def test_no_file_and_no_function_body_is_in_both_splits() -> None:
    train, valid = stdlib.functions("train"), stdlib.functions("valid")
    assert train
    assert valid
    assert not {f.source for f in train} & {f.source for f in valid}
    assert not set(stdlib.source_files("train")) & set(stdlib.source_files("valid"))
    assert len(stdlib.source_files("train")) + len(stdlib.source_files("valid")) == 30


@pytest.mark.usefixtures("small_library")
def test_functions_come_bare_and_summaries_in_one_sentence() -> None:
    rows = function_rows("train")
    assert all('"""' not in row.response for row in rows)
    assert all(row.prompt.startswith("Write a python function. Return the") for row in rows)
    assert all("More words" not in row.prompt for row in rows)


@pytest.mark.usefixtures("small_library")
def test_coding_rows_join_the_data_folder_and_the_library(tmp_path: Path) -> None:
    record = {"id": "mbpp-1", "prompt": " Add. ", "response": "def add(): ...\n", "tests": []}
    folder = tmp_path / "data" / "coding"
    folder.mkdir(parents=True)
    (folder / "mbpp_train.jsonl").write_text(json.dumps(record) + "\n")
    rows = domain_rows(tmp_path / "data", "coding", "train")
    assert rows[0] == Row("mbpp-1", "Add.", "def add(): ...")
    assert all(row.id.startswith("stdlib-") for row in rows[1:])


def test_an_unknown_domain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=f"'law'; known: {DOMAINS[0]}"):
        domain_rows(Path(), "law", "train")


@pytest.mark.usefixtures("small_library")
def test_undocumented_functions_are_of_train_modules_and_repeat_no_documented_one() -> None:
    found = stdlib.undocumented()
    train = [n for n in range(30) if stdlib.module_split(f"mod{n}") == "train"]
    assert sorted(f.qualified_name.split(".")[0] for f in found) == sorted(f"mod{n}" for n in train)
    assert {f.summary for f in found} == {"Bare name"}
    documented = {f.source for split in stdlib.SPLITS for f in stdlib.functions(split)}
    assert not documented & {f.source for f in found}
