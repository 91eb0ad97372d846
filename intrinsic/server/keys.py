"""The two keys: a plain one to ask with, an admin one to change things with."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from intrinsic.errors import ConfigError

SHORTEST = 16
"""Characters; a key that was made here has more than twice as many."""
_NAMES = ("admin_key", "api_key")
_LINE = re.compile(r"""(\w+)\s*:\s*(?:"([^"]*)"|'([^']*)'|(\S*))\s*(?:#.*)?""")
_LARGEST = 64 * 1024
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that are known; neither is shown.

    Raises `ConfigError` for one that is short, or cannot be sent in a header, and where both are
    the same.
    """

    admin_key: str = field(repr=False)
    api_key: str = field(repr=False)

    def __post_init__(self) -> None:
        for name in _NAMES:
            key = getattr(self, name)
            if not isinstance(key, str) or len(key) < SHORTEST or not _is_plain(key):
                raise ConfigError(
                    f"{name} is not valid: a key has {SHORTEST} or more letters, digits or signs "
                    "of ASCII, and no spaces"
                )
        if self.admin_key == self.api_key:
            raise ConfigError(
                "admin_key and api_key are the same; then whoever may ask may change everything"
            )

    @classmethod
    def made(cls) -> Keys:
        """New keys, of 256 random bits each."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32))


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Where keys are kept; only their owner may read it."""

    path: Path

    def open(self) -> tuple[Keys, bool]:
        """Read the keys; where there is no file, make both, and say True.

        Raises `ConfigError` for a file that others can read, or that is none of keys: one of JSON
        or YAML with `admin_key` and `api_key`, such as TabbyAPI's `api_tokens.yml`.
        """
        try:
            return self._read(), False
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:  # the latter of a path that none can have
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"the key file {str(self.path)!r} cannot be read: {why}") from None
        keys = Keys.made()
        try:
            self._write(keys)
        except FileExistsError:  # another server was quicker, or it is a link
            try:
                return self._read(), False
            except OSError as error:
                raise ConfigError(
                    f"the key file {self.path} is a link that leads nowhere, or cannot be read: "
                    f"{error.strerror or error}"
                ) from None
        except OSError as error:
            raise ConfigError(
                f"the key file {self.path} cannot be made: {error.strerror or error}; name another "
                "with --key-file"
            ) from None
        return keys, True

    def _read(self) -> Keys:
        with self.path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"the key file {self.path} is no file")
            if os.name == "posix" and found.st_mode & 0o077:
                raise ConfigError(
                    f"the key file {self.path} can be read by others (mode "
                    f"{stat.S_IMODE(found.st_mode):04o}); make it yours alone with: "
                    f"chmod 600 {self.path}"
                )
            content = file.read(_LARGEST + 1)
        try:
            said = _parsed(content)
        except (ValueError, RecursionError):
            said = {}
        missing = [name for name in _NAMES if name not in said]
        if missing:
            raise ConfigError(
                f"the key file {self.path} has no {' and no '.join(missing)}; write "
                '{"admin_key": "...", "api_key": "..."}, or remove it, and new keys are made'
            )
        try:
            return Keys(said["admin_key"], said["api_key"])
        except ConfigError as error:
            raise ConfigError(f"the key file {self.path}: {error}") from None

    def _write(self, keys: Keys) -> None:
        """Make the file whole or not at all; one that is there stays. Raises `OSError`."""
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        number, made = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=folder)  # of mode 0600
        try:
            with os.fdopen(number, "w") as file:
                json.dump({name: getattr(keys, name) for name in _NAMES}, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.chmod(made, _MODE)
            os.link(made, self.path)
        finally:
            with suppress(OSError):
                os.unlink(made)


def _parsed(content: bytes) -> dict[str, str]:
    """The texts at the top of a file of JSON, or of YAML in its plainest form."""
    if len(content) > _LARGEST:
        raise ValueError("too large")
    text = content.decode("utf-8-sig")
    if text.lstrip().startswith("{"):
        said = json.loads(text)
        return {name: value for name, value in said.items() if isinstance(value, str)}
    lines = (_LINE.fullmatch(line.rstrip()) for line in text.splitlines())
    return {line[1]: line[2] or line[3] or line[4] or "" for line in lines if line}


def _is_plain(key: str) -> bool:
    return key.isascii() and key.isprintable() and " " not in key
