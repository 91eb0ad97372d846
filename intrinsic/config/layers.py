"""Where settings are said: flags, environment and files, each a layer."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intrinsic.config.keys import KEYS, PREFIX, TABLES, Key
from intrinsic.config.wording import nearest, unknown

PROJECT_FILE = "intrinsic.toml"
PYPROJECT = "pyproject.toml"
_TABLES = [key for key in KEYS.values() if key.is_table]
_MODELS = ("model", "encoder.model", "embedding.model")
"""Folders or names; that of an endpoint is always a name."""
_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///(?=[^/:~])(?!file:)([^?]+)")


@dataclass(frozen=True, slots=True)
class Given:
    """A value that was said of a key, and where."""

    key: Key
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with what was said of a key, or of what is none."""

    path: str
    origin: str
    message: str

    @property
    def sentence(self) -> str:
        """The fault with its place."""
        return f"{self.origin}: {self.message}" if self.origin else self.message


@dataclass(frozen=True, slots=True)
class Layer:
    """What one place says; of a key that it says twice, the later counts."""

    given: Mapping[str, Given]
    faults: tuple[Fault, ...] = ()

    def without(self, paths: set[str]) -> Layer:
        """The layer without some keys."""
        return replace(self, given={p: one for p, one in self.given.items() if p not in paths})


def layers_of(
    flags: Mapping[str, object],
    flag_names: Mapping[str, str],
    environ: Mapping[str, str],
    here: Path,
) -> list[Layer]:
    """The layers of one run, the one that counts most first."""
    own, pyproject = here / PROJECT_FILE, here / PYPROJECT
    layers = [
        _flags(flags, flag_names),
        _environment(environ),
        _file(own, PROJECT_FILE, ()),
        _file(pyproject, f"{PYPROJECT} [tool.intrinsic]", ("tool", "intrinsic")),
    ]
    user = user_file(environ)
    return layers if user is None else [*layers, _file(user, str(user), ())]


def user_file(environ: Mapping[str, str]) -> Path | None:
    """The user's own file, by the XDG base directory specification; None without a home."""
    base = Path(environ.get("XDG_CONFIG_HOME") or "")
    if not base.is_absolute():
        try:
            base = Path(environ.get("HOME") or Path.home()) / ".config"
        except RuntimeError:
            return None
    return base / "intrinsic" / "config.toml"


def _flags(flags: Mapping[str, object], names: Mapping[str, str]) -> Layer:
    said = {path: value for path, value in flags.items() if value is not None}
    found = list(_flat(said, "", ""))
    told = [replace(one, origin=names.get(_path(one), f"flag {_path(one)}")) for one in found]
    return _layer(told)


def _environment(environ: Mapping[str, str]) -> Layer:
    found: list[Given | Fault] = []
    for name in sorted(environ):
        text, origin = environ[name], f"environment {name}"
        if not name.startswith(PREFIX):
            continue
        path = name.removeprefix(PREFIX).lower().replace("__", ".")
        table = next((k for k in _TABLES if path.startswith(f"{k.path}.")), None)
        if path in KEYS and KEYS[path].variable == name:
            if text:  # an empty one is as none
                found.append(Given(KEYS[path], _parsed(KEYS[path], text), origin))
        elif table is not None:
            if not text:
                continue
            inner: Any = text
            for part in reversed(path.removeprefix(table.path + ".").split(".")):
                inner = {part: inner}
            found.append(Given(table, inner, origin))
        else:
            near = nearest(path)
            hint = f"did you mean {KEYS[near].variable}?" if near else "see 'intrinsic config show'"
            found.append(Fault(path, origin, f"there is no setting {name}; {hint}"))
    return _layer(found)


def _parsed(key: Key, text: str) -> object:
    """Lists and tables are written as JSON; a list of one may be written as that one."""
    if (key.is_table or key.accepts(tuple)) and text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _file(path: Path, shown: str, within: tuple[str, ...]) -> Layer:
    try:
        if not path.exists():
            return Layer({})
        if not path.is_file():
            raise OSError("it is no regular file")
        table: object = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        for part in within:
            table = table.get(part, {}) if isinstance(table, Mapping) else {}
        if not isinstance(table, Mapping):
            return Layer({}, (Fault("", shown, "it is no table of settings"),))
        found = list(_flat(table, "", shown))
    except (OSError, ValueError, RecursionError) as error:
        why = str(error) or type(error).__name__
        return Layer({}, (Fault("", str(path), f"it cannot be read as TOML: {why}"),))
    return _layer([_from_folder(one, path.parent) for one in found])


def _flat(table: Mapping[str, Any], prefix: str, origin: str) -> Iterator[Given | Fault]:
    for name, value in table.items():
        path = prefix + str(name)
        if path in KEYS:
            yield Given(KEYS[path], value, origin)
        elif isinstance(value, Mapping) and (value or path in TABLES):
            yield from _flat(value, f"{path}.", origin)
        elif path in TABLES:
            what = f"{path} is a table of settings; write [{path}] and its keys below"
            yield Fault(path, origin, what)
        else:
            yield Fault(path, origin, unknown(path))


def _from_folder(one: Given | Fault, folder: Path) -> Given | Fault:
    """In a file, relative paths start at its folder; so do models that lie there."""
    if isinstance(one, Fault):
        return one

    def placed(value: object) -> object:
        if not isinstance(value, str) or not value or "\0" in value or value.startswith("~"):
            return value
        if "://" in value:
            is_file = one.key.path == "registry" and _SQLITE.fullmatch(value)
            return str(folder / is_file[1]) if is_file else value
        is_there = one.key.path in _MODELS and (folder / value).is_dir()
        is_ours = one.key.is_path or is_there or one.key.path == "registry"
        return str(folder / value) if is_ours else value

    value = one.value
    if one.key.accepts(type(None)) and isinstance(value, str) and value.lower() == "none":
        return one
    many = isinstance(value, list)
    return replace(one, value=[placed(part) for part in value] if many else placed(value))


def _layer(found: list[Given | Fault]) -> Layer:
    given: dict[str, Given] = {}
    for one in found:
        if isinstance(one, Given):
            before = given.get(one.key.path)
            given[one.key.path] = one if before is None else _both(before, one)
    return Layer(given, tuple(one for one in found if isinstance(one, Fault)))


def _both(first: Given, second: Given) -> Given:
    """Two variables of one table, name by name; what is no table is not lost but refused."""
    if isinstance(first.value, Mapping) and isinstance(second.value, Mapping):
        value = _merged(first.value, second.value)
        return Given(first.key, value, f"{first.origin} and {second.origin.split()[-1]}")
    return second if isinstance(first.value, Mapping) or not first.key.is_table else first


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _merged(first[name], second[name])
        for name in first.keys() & second.keys()
        if isinstance(first[name], Mapping) and isinstance(second[name], Mapping)
    }
    return {**first, **second, **both}


def _path(one: Given | Fault) -> str:
    return one.key.path if isinstance(one, Given) else one.path
