"""Every hook is a heading in docs/plugins.md, with its exact arguments."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from intrinsic import hookspecs

DOCS = Path(__file__).parents[2] / "docs" / "plugins.md"
HOOKS = {
    name: function
    for name, function in vars(hookspecs).items()
    if hasattr(function, f"{hookspecs.PROJECT}_spec")
}


@pytest.mark.parametrize("name", HOOKS)
def test_the_hook_is_a_heading(name: str) -> None:
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    headings = [line.strip("# \n") for line in DOCS.read_text().splitlines() if line[:1] == "#"]
    assert f"`{name}({arguments})`" in headings


def test_no_heading_names_a_hook_that_is_gone() -> None:
    headings = [line.strip("# \n`") for line in DOCS.read_text().splitlines() if line[:2] == "##"]
    named = {heading.partition("(")[0] for heading in headings if heading.endswith(")")}
    assert named == set(HOOKS)
