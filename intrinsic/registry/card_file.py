"""Writing an adapter's `card.toml`: whole or not at all, with its comments and its order."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Array, Whitespace

from intrinsic.bundled import adapters_path, base_path
from intrinsic.card import CARD_FIELDS, AdapterCard
from intrinsic.errors import AdapterError, ConfigError
from intrinsic.registry.entry import CONFIG_NAME, AdapterEntry

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CARD_FILE = "card.toml"
_ONE_BY_ONE = 100
"""More texts than this are added in one go, a line each, whatever the list looks like."""

Value = str | float | tuple[str, ...] | None
Fields = dict[str, object]

_EMPTY: Fields = {one.name: one.default for one in fields(AdapterCard) if one.name != "name"}


def write_card(entry: AdapterEntry, card: AdapterCard) -> Path:
    """Make `card` the card of an adapter's folder and return the file.

    What a `card.toml` says already stays as it is written, comments too; otherwise a new one is
    made, which stands before a `card.json` and before what the config says. Raises
    `AdapterError` for a folder that may not be written, `ConfigError` for what a file cannot say.
    """
    path = entry.path / CARD_FILE
    _refuse_installed(path)
    try:
        text = _text(path, card, _inherited(entry.path))
        _replace(_target(path), text)
    except OSError as error:
        raise AdapterError(
            f"{path} cannot be written: {error.strerror or error}; copy the adapter to a folder "
            "that you may write to, and name that with --adapters-dir"
        ) from error
    return path


@contextmanager
def card_lock(folder: Path) -> Iterator[None]:
    """Keep out other processes that hold this lock, while a card is read, changed and written.

    It leaves no file. Where the system or the file system has no such locks it keeps nobody out.
    """
    if fcntl is None:
        yield
        return
    handle = None
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _refuse_installed(path: Path) -> None:
    package = base_path().parent
    if path.resolve().is_relative_to(package.resolve()):
        raise AdapterError(
            f"{path} belongs to the installed package and is not changed; copy "
            f"{adapters_path()} to a folder of yours, and name that with --adapters-dir"
        )


def _target(path: Path) -> Path:
    """The file itself where `path` links to one in its folder; other links are replaced."""
    linked = path.resolve()
    return linked if linked.is_relative_to(path.parent.resolve()) else path


def _inherited(folder: Path) -> Fields:
    """What the adapter's config says of the card; a card.toml must speak against it."""
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    return {key: config[key] for key in CARD_FIELDS if config.get(key) is not None}


def _text(path: Path, card: AdapterCard, inherited: Fields) -> str:
    document = _document(path)
    # What is read where the file does not say it; a new file says all that the config says.
    unsaid = {"name": path.parent.name} | _EMPTY | inherited if path.exists() else _EMPTY
    for key in CARD_FIELDS:
        value = getattr(card, key)
        before = document.get(key, unsaid.get(key))
        if _plain(key, before) != value or (key in inherited and not path.exists()):
            _set(document, key, value, inherited)
    text = tomlkit.dumps(document)
    said = {"name": path.parent.name} | inherited | tomllib.loads(text)
    if AdapterCard(**{key: _plain(key, value) for key, value in said.items()}) != card:
        raise ConfigError(
            f"the card of adapter {card.name!r} cannot be written to {path} as it is; "
            "edit the file itself"
        )
    return text


def _document(path: Path) -> tomlkit.TOMLDocument:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tomlkit.parse(file.read())
    except FileNotFoundError:
        return tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error


def _set(document: tomlkit.TOMLDocument, key: str, value: Value, inherited: Fields) -> None:
    if value is None:
        document.pop(key, None)
        if key in inherited:
            raise ConfigError(f"{key} is set in {CONFIG_NAME}, where it has to be removed")
    elif isinstance(value, tuple):
        _set_list(document, key, value)
    else:
        document[key] = value


def _set_list(document: tomlkit.TOMLDocument, key: str, value: tuple[str, ...]) -> None:
    """Take out and add one by one, so that the others keep their lines and comments."""
    array = document.get(key)
    if not isinstance(array, Array):
        document[key] = _array(value)
        return
    blocks = SequenceMatcher(None, list(array), value, autojunk=False).get_matching_blocks()
    stay = {block.a + nth for block in blocks for nth in range(block.size)}
    for at in reversed(range(len(array))):
        if at not in stay:
            del array[at]
    for at, text in enumerate(value):
        if at == len(array) and len(value) - at > _ONE_BY_ONE:
            _extend(array, value[at:])
            break
        if at == len(array):
            array.append(text)
        elif array[at] != text:
            array.insert(at, text)
    if tuple(array) != value:
        document[key] = _array(value)


def _array(values: Sequence[str]) -> Array:
    array = tomlkit.array()
    if values:
        _extend(array, values)
    return array.multiline(bool(values))


def _extend(array: Array, texts: Sequence[str]) -> None:
    """Add texts, a line each, in one go: tomlkit's own goes over the whole array for each."""
    parts = [part for text in texts for part in (text, Whitespace(","), Whitespace("\n    "))]
    array.add_line(*parts[:-1], add_comma=False)


def _plain(key: str, value: object) -> Any:  # noqa: ANN401
    """A value of a file as a card has it: numbers that stand for text, lists for tuples."""
    if isinstance(value, bool | int | float) and key != "threshold":
        return str(value)
    return tuple(value) if isinstance(value, list) else value


def _replace(path: Path, text: str) -> None:
    """Write beside the file and give it the name at the end."""
    made = path.with_name(f".{path.name}-{uuid.uuid4().hex}.tmp")
    try:
        with made.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, made)
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
