"""The places where settings are said, in folders of a test's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from intrinsic.config import Settings, load_settings
from intrinsic.errors import SettingsError


@dataclass(frozen=True)
class Places:
    """A project's folder and a user's; what they say is written with `project`, `user`, ..."""

    root: Path

    @property
    def here(self) -> Path:
        return self._made("project")

    @property
    def home(self) -> Path:
        return self._made("home/intrinsic")

    def project(self, text: str) -> Path:
        return _write(self.here / "intrinsic.toml", text)

    def pyproject(self, text: str) -> Path:
        return _write(self.here / "pyproject.toml", text)

    def user(self, text: str) -> Path:
        return _write(self.home / "config.toml", text)

    def load(self, flags: Mapping[str, object] | None = None, /, **variables: str) -> Settings:
        """Load with variables of the environment, which are named without `INTRINSIC_`."""
        environ = {f"INTRINSIC_{name}": value for name, value in variables.items()}
        return load_settings(
            flags,
            flag_names={"routing.top_k": "--top-k"},
            environ=environ | {"XDG_CONFIG_HOME": str(self.root / "home")},
            cwd=self.here,
        )

    def refused(
        self, flags: Mapping[str, object] | None = None, /, **variables: str
    ) -> tuple[str, ...]:
        """What is wrong, a sentence each."""
        try:
            self.load(flags, **variables)
        except SettingsError as error:
            return error.sentences
        return ()

    def _made(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
