"""Import the `*.py` files of a plugin folder, each as a module of its own."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from intrinsic.errors import ConfigError, PluginLoadError


def plugin_files(folder: Path) -> Iterator[Path]:
    """The files of a folder that are plugins, in order of their names.

    Raises `ConfigError` where there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"plugin folder '{folder}' does not exist; name a folder with *.py files")
    for path in sorted(folder.resolve().glob("*.py")):
        if not path.name.startswith("_") and path.is_file():
            yield path


def module_name(path: Path) -> str:
    """A module name that no other file has, whatever its folder."""
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    return f"intrinsic_plugin_{digest}_{path.stem}"


def import_file(path: Path) -> ModuleType:
    """Run a plugin file and return its module. Raises `PluginLoadError` with file and line."""
    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Compiled here, and not by the loader, so that the folder stays free of __pycache__.
        exec(compile(path.read_bytes(), path, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        forget_file(path)
        what = f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"
        raise PluginLoadError(f"{path}:{_line_of(error, path)}: {what}") from error
    return module


def forget_file(path: Path) -> None:
    """Take back what `import_file` did to the interpreter's modules."""
    sys.modules.pop(module_name(path), None)


def _line_of(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno:
        return error.lineno
    lines = [
        frame.lineno or 1
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return lines[-1] if lines else 1
