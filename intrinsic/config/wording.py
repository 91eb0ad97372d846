"""Kinds and values of settings, in words."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from intrinsic.config.keys import KEYS, Key, alternatives
from intrinsic.config.registry_name import HIDDEN, RegistryName

NONE = "none"
"""What stands for Python's None, which neither TOML nor an environment variable has."""
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_MANY = {bool: "truths", int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}
_SHOWN_CHARS = 60
_PASSWORD = re.compile(r"(?<=://)[^\s\"]*:[^\s\"]*@")
"""That of a URL which was given to a key that takes none."""


def kind_of(annotation: Any) -> str:  # noqa: ANN401
    """What a value must be: `a whole number, or "none"`."""
    parts = [one for one in alternatives(annotation) if one is not types.NoneType]
    if Path in parts:
        parts = [Path]
    words = " or ".join(_one(part) for part in parts)
    return f'{words}, or "{NONE}"' if types.NoneType in alternatives(annotation) else words


def _one(kind: Any) -> str:  # noqa: ANN401
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"a list of {_many(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) is Mapping:
        return f"a table of {_many(typing.get_args(kind)[1])}"
    return _WORDS.get(kind, "a path")


def _many(kind: Any) -> str:  # noqa: ANN401
    if typing.get_origin(kind) is frozenset:
        return f"lists of {_many(typing.get_args(kind)[0])}"
    if dataclasses.is_dataclass(kind):
        return "tables with " + " and ".join(one.name for one in dataclasses.fields(kind))
    return _MANY[kind]


def plain(value: object) -> Any:  # noqa: ANN401
    """The value as JSON has it; a secret is hidden."""
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, RegistryName):
        return value.shown
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, frozenset):
        return sorted(map(plain, value))
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def shown(key: Key, value: object) -> str:
    """A value in one line, for people: without secrets, and nothing that a terminal obeys."""
    text = _text(key, value)
    return text if text.isprintable() else repr(text)[1:-1]


def _text(key: Key, value: object) -> str:
    if key.is_secret and value is not None:
        return HIDDEN
    if key.path == "registry" and isinstance(value, str):
        value = RegistryName(value)
    found = plain(value)
    if found is None:
        return NONE
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
    return _PASSWORD.sub(f"{HIDDEN}@", text) if key.path != "registry" else text


def refused(key: Key, value: object, place: str) -> str:
    """A sentence on a value of another kind than the key's; `place` may lie within the value."""
    if isinstance(value, Mapping | list | tuple):
        return f"{place} is not valid; {key.path} must be {kind_of(key.type)}"
    text = repr(_text(key, value)) if isinstance(value, str) else _text(key, value)
    return f"{key.path} is {text:.{_SHOWN_CHARS}}; it must be {kind_of(key.type)}"


def nearest(path: str, known: Iterable[str] = KEYS) -> str:
    """The known key that somebody may have meant, or ""."""
    paths = list(known)
    name = path.rpartition(".")[2]
    same = [one for one in paths if one.rpartition(".")[2] == name]
    near = difflib.get_close_matches(path, same or paths, n=1, cutoff=0.0 if same else 0.6)
    if near:
        return near[0]
    names = {one.rpartition(".")[2]: one for one in reversed(paths)}
    return next((names[one] for one in difflib.get_close_matches(name, names, n=1)), "")


def unknown(path: str) -> str:
    """A sentence on a key that there is not."""
    near = nearest(path.lower().replace("-", "_"))
    hint = f"did you mean {near!r}?" if near else "'intrinsic config show' lists all keys"
    return f"unknown key {path!r:.{_SHOWN_CHARS}}; {hint}"
