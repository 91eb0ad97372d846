"""A feature without its extra says what to install, everywhere in the same words."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

from intrinsic.extras import Extra, how_to_install

ROOT = Path(__file__).parents[1]
FOR_DEVELOPERS = {"bench", "test"}


def extras() -> dict[str, list[str]]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = tomllib.loads(text)["project"]["optional-dependencies"]
    return found


def test_the_words_name_extras_that_there_are() -> None:
    assert set(get_args(Extra)) == extras().keys() - FOR_DEVELOPERS
    assert how_to_install("onnx").endswith("pip install 'intrinsic-lora[onnx]'")


def test_the_words_are_in_one_place() -> None:
    for path in (ROOT / "intrinsic").rglob("*.py"):
        if path.name != "extras.py":
            assert "intrinsic-lora[" not in path.read_text(encoding="utf-8"), path


def test_every_extra_is_asked_for_somewhere() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "intrinsic").rglob("*.py"))
    assert set(re.findall(r"""how_to_install\(["']([\w-]+)["']\)""", code)) == set(get_args(Extra))


def test_the_docs_tell_every_extra() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \| [^|]+ \|$", text, re.MULTILINE)) >= set(
        get_args(Extra)
    )


def test_what_tests_need_has_what_features_need() -> None:
    needed = {one for extra in get_args(Extra) for one in extras()[extra]}
    assert needed <= set(extras()["test"])
