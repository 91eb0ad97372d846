"""Everything that README and docs show runs, and is what the files say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> Iterator[str]:
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == language:
            yield text


def python_blocks() -> Iterator[object]:
    for page in PAGES:
        for number, text in enumerate(blocks(page, "python"), 1):
            yield pytest.param(text, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("code", list(python_blocks()))
def test_every_python_example_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some make files
    exec(compile(code, "<example>", "exec"), {"__name__": "example"})


def test_the_readmes_example_is_short_and_its_plugins_are_the_files() -> None:
    example, *plugins = blocks(ROOT / "README.md", "python")
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) < 20
    assert "setup_weight_interface" in example
    files = {path.read_text(encoding="utf-8") for path in (ROOT / "plugins").glob("*.py")}
    assert set(plugins) == files


def test_the_readmes_commands_are_the_two() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install -e . && intrinsic demo" in text
    assert 'pip install -e ".[test]" && pytest' in text


def test_the_readmes_tree_names_every_module_and_nothing_else() -> None:
    (tree,) = blocks(ROOT / "README.md", "text")
    named = set(re.findall(r"[\w.-]+\.(?:py|toml|md)|[\w.]+/", tree))
    for path in (ROOT / "intrinsic").rglob("*.py"):
        if path.name != "__init__.py":
            assert path.name in named, f"{path} is missing from README's tree"
    real = {path.name for path in ROOT.rglob("*")} | {f"{p.name}/" for p in ROOT.rglob("*")}
    assert {name for name in named if name not in real} <= {"NAME/"}


def test_examples_of_cards_are_sound() -> None:
    for page in PAGES:
        for text in blocks(page, "toml"):
            tomllib.loads(text)


def test_pages_link_to_what_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
