"""All keys written down: as a commented file, and as the table of the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator

from intrinsic.config.about import ABOUT, SECTION_TITLES
from intrinsic.config.keys import KEYS, REQUIRED, Key
from intrinsic.config.wording import NONE, kind_of, plain

_INTRODUCTION = """\
# Settings of intrinsic for this folder. Take the '#' from a line to set it; what is not set has the
# value that is shown. Flags and the environment (INTRINSIC_ROUTING__TOP_K=3) count more than this
# file. 'intrinsic config show' tells every value and where it came from, 'intrinsic config check'
# what is wrong. Relative paths start at this file's folder; "none" stands for nothing.
"""
_EXAMPLES = {
    "llm.endpoint.base_url": "http://localhost:8000/v1",
    "llm.endpoint.model": "my-model",
}


def template() -> str:
    """A file that sets nothing, with every key, its default and what it is for."""
    return _INTRODUCTION + "".join(_sections())


def _sections() -> Iterator[str]:
    section = None
    for key in KEYS.values():
        if key.section.name != section:
            section = key.section.name
            header = f"[{section}]\n" if section else ""
            yield f"\n# {SECTION_TITLES[section]}\n{header}"
        yield f"# {key.name} = {_toml(key)}  # {ABOUT[key.path]}\n"


def _toml(key: Key) -> str:
    if key.default is REQUIRED:
        return json.dumps(_EXAMPLES[key.path])
    value = plain(key.default)
    return json.dumps(NONE if value is None else value, ensure_ascii=False)


def reference() -> str:
    """A table of Markdown for each section: key, what it must be, default, what it is for."""
    parts: list[str] = []
    section = None
    for key in KEYS.values():
        if key.section.name != section:
            section = key.section.name
            title = f"`[{section}]`: " if section else ""
            text = SECTION_TITLES[section]
            parts.append(f"### {title}{text}\n\n| key | must be | default | |\n|---|---|---|---|\n")
        parts[-1] += (
            f"| `{key.name}` | {kind_of(key.type)} | {_default(key)} | {ABOUT[key.path]} |\n"
        )
    return "\n".join(parts)


def _default(key: Key) -> str:
    if key.default is REQUIRED:
        return "must be given"
    return "the machine's" if key.made_here else f"`{_toml(key)}`"
