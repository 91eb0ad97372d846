"""Python texts from the interpreter's own standard library, split by top-level module.

The files are found through `sysconfig`; tests, generated tables and installed packages are left
out. Licence of these texts: Python Software Foundation License.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

Split = Literal["train", "valid"]
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

SKIPPED_PARTS = frozenset(
    [
        "test",
        "tests",
        "idle_test",
        "site-packages",
        "lib2to3",
        "encodings",
        "pydoc_data",
        "lib-dynload",
    ]
)
SPLITS: tuple[Split, ...] = ("train", "valid")
MIN_FUNCTION_CHARS = 40
MAX_FUNCTION_CHARS = 700
MIN_SUMMARY_CHARS = 20
MIN_DOCSTRING_CHARS = 160


@dataclass(frozen=True)
class Function:
    """A documented function: where it lives, its docstring's first sentence, its bare source."""

    qualified_name: str
    summary: str
    source: str


def bucket(key: str, buckets: int = 100) -> int:
    """Place `key` in one of `buckets` equal parts, the same one on every machine and run."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % buckets


def module_split(module: str) -> Split:
    """Which split a top-level module belongs to; every file below it follows."""
    return "valid" if bucket(f"module:{module}") < 12 else "train"


def source_files(split: Split) -> list[Path]:
    """The library's Python files of one split, sorted by path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return [root / name for name in sorted(_candidates(root)) if module_split(_top(name)) == split]


def module_name(path: Path) -> str:
    """The top-level module of a file returned by `source_files`."""
    return _top(str(path.relative_to(sysconfig.get_paths()["stdlib"])))


def docstrings(split: Split) -> list[str]:
    """Docstrings long enough to be prose, each once, in file order."""
    texts: dict[str, None] = {}
    for path in source_files(split):
        for node in ast.walk(_parse(path)):
            if isinstance(node, FunctionNode | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if len(text) >= MIN_DOCSTRING_CHARS:
                    texts[text] = None
    return list(texts)


def topics() -> list[str]:
    """The language reference that `help()` shows: plain English about Python."""
    from pydoc_data.topics import topics as pages

    return [str(pages[name]).strip() for name in sorted(pages)]


def functions(split: Split) -> list[Function]:
    """Documented functions without their docstrings, each body once, in file order."""
    found: dict[str, Function] = {}
    for path in source_files(split):
        for function in _functions_of(path):
            found.setdefault(function.source, function)
    if split == "valid":
        for function in functions("train"):
            found.pop(function.source, None)
    return list(found.values())


def undocumented() -> list[Function]:
    """Train functions without a docstring, each body once; the name's words are the summary.

    None has the body of a documented function, of either split.
    """
    known = {f.source for split in SPLITS for f in functions(split)}
    found: dict[str, Function] = {}
    for path in source_files("train"):
        for function in _undocumented_of(path):
            if function.source not in known:
                found.setdefault(function.source, function)
    return list(found.values())


def _functions_of(path: Path) -> Iterator[Function]:
    for node in ast.walk(_parse(path)):
        if not isinstance(node, FunctionNode):
            continue
        summary = _summary(ast.get_docstring(node) or "")
        body = node.body[1:]
        if len(summary) < MIN_SUMMARY_CHARS or not body or isinstance(body[0], ast.Pass):
            continue
        source = ast.unparse(_bare(node, skip=1))
        if len(source) <= MAX_FUNCTION_CHARS:
            yield Function(f"{path.stem}.{node.name}.{node.lineno}", summary, source)


def _undocumented_of(path: Path) -> Iterator[Function]:
    for node in ast.walk(_parse(path)):
        if not isinstance(node, FunctionNode) or ast.get_docstring(node):
            continue
        source = ast.unparse(_bare(node, skip=0))
        if MIN_FUNCTION_CHARS <= len(source) <= MAX_FUNCTION_CHARS:
            summary = node.name.strip("_").replace("_", " ").capitalize()
            yield Function(f"{path.stem}.{node.name}.{node.lineno}", summary, source)


def _bare(node: FunctionNode, skip: int) -> FunctionNode:
    """The function without decorators and without its first `skip` statements."""
    copy = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(copy, FunctionNode)
    copy.body = copy.body[skip:]
    copy.decorator_list = []
    return copy


def _summary(docstring: str) -> str:
    first = docstring.strip().split("\n\n")[0]
    return " ".join(first.split()).split(". ")[0].rstrip(".")[:200]


def _candidates(root: Path) -> Iterator[str]:
    for path in root.rglob("*.py"):
        name = path.relative_to(root)
        generated = name.parts[0].startswith(("config-", "_sysconfigdata"))
        if not generated and not SKIPPED_PARTS.intersection(name.parts):
            yield str(name)


def _top(name: str) -> str:
    return Path(name).parts[0].removesuffix(".py")


@lru_cache(maxsize=1024)
def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(path.read_text(encoding="utf-8", errors="replace"))
