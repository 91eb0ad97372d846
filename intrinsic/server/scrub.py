"""Sentences for clients: without paths of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath

_ROUTES = ("/v1", "/health", "/metrics", "/docs", "/openapi.json", "/lora-adapters")
_URL = re.compile(r"\b(?:sqlite|postgres\w*|mysql\w*|file)(?:\+\w+)?:/{2,}[^\s'\"]+")
_PATH = re.compile(r"(?<![\w/.:~])~?/(?:[^\s/'\"`,;:()\[\]{}<>|]+/)*[^\s/'\"`,;:()\[\]{}<>|]+/?")
_WINDOWS = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\\\s'\",;:]+\\)*[^\\\s'\",;:]+")


class Scrubber:
    """Knows the folders of this server, also those whose names have spaces."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        known = {str(path) for folder in (*folders, *_own()) for path in _of(folder)}
        longest_first = sorted((path for path in known if len(Path(path).parts) > 1), key=len)[::-1]
        self._known = re.compile(
            "|".join(rf"(?<![\w/.:~]){re.escape(path)}(?:/|(?![\w.-]))" for path in longest_first)
        )

    def __call__(self, message: str) -> str:
        """The message with every absolute path replaced by its last component."""
        message = self._known.sub(_relative, message)
        message = _URL.sub("the database", message)
        message = _WINDOWS.sub(lambda found: found[0].rpartition("\\")[2], message)
        return _PATH.sub(_last, message)


def _own() -> Iterator[Path]:
    for find in (Path.home, Path.cwd):
        with suppress(OSError, RuntimeError):  # there is no home, or the folder is gone
            yield find()


def _of(folder: Path) -> Iterable[Path]:
    return (folder, folder.expanduser().absolute(), folder.expanduser().resolve())


def _relative(found: re.Match[str]) -> str:
    return "" if found[0].endswith("/") else PurePath(found[0]).name


def _last(found: re.Match[str]) -> str:
    if found[0].startswith(_ROUTES):
        return found[0]
    return PurePath(found[0]).name
