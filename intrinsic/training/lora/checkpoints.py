"""The folder in which a training keeps what it needs to go on after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from intrinsic.errors import AdapterInUseError, ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PLAN_FILE = "plan.json"
WHOLE_FILE = "whole.json"
STATE_FILE = "trainer_state.json"
_PREFIX = "checkpoint-"


class Checkpoints:
    """Checkpoints of one training, in a hidden folder beside the adapter that is to be.

    The folder says in `plan.json` which data, base and settings they belong to. One is whole only
    when it was written to its end: the last file written lists all others with their sizes.
    """

    def __init__(self, target: Path) -> None:
        self.folder = target.parent / f".{target.name}.training"
        self._holds = False

    @contextmanager
    def open(self, plan: Mapping[str, Any], *, resume: bool) -> Iterator[Path | None]:
        """Hold the folder, and yield the latest whole checkpoint of this plan, or None.

        Without `resume`, or without a whole checkpoint, what is there is removed. Raises
        `ConfigError` where the checkpoints belong to another plan, and `AdapterInUseError` where
        another process holds the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._held():
            try:
                found = self.whole() if resume else []
                if found:
                    self._compare(plan)
                self._sweep({path for _, path in found})
                if not found:
                    text = json.dumps(plan, indent=2) + "\n"
                    (self.folder / PLAN_FILE).write_text(text, encoding="utf-8")
                yield found[-1][1] if found else None
            finally:
                if not self.whole():
                    self._clear()

    def whole(self) -> list[tuple[int, Path]]:
        """The whole checkpoints with their steps, the latest last."""
        found = []
        with suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                step = path.name.removeprefix(_PREFIX)
                if step.isdecimal() and path.name.startswith(_PREFIX) and _is_whole(path):
                    found.append((int(step), path))
        return sorted(found)

    def at(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.folder / f"{_PREFIX}{step}"

    def remove(self) -> None:
        """Remove the folder with all that is in it, unless another training holds it by now."""
        if self._holds:
            self._clear()
            return
        with suppress(AdapterInUseError, FileNotFoundError), self._held():
            self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _compare(self, plan: Mapping[str, Any]) -> None:
        path = self.folder / PLAN_FILE
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        kept = kept if isinstance(kept, dict) else {}
        given = json.loads(json.dumps(plan))
        changed = [key for key in {**kept, **given} if kept.get(key) != given.get(key)]
        if changed:
            listed = ", ".join(f"{key} (was {_short(kept.get(key))})" for key in changed)
            raise ConfigError(
                f"the checkpoints in {self.folder} belong to other data or settings: {listed}; "
                "give the same to go on from them, or begin anew with --no-resume"
            )

    def _sweep(self, kept: set[Path]) -> None:
        for path in self.folder.iterdir():
            if path.is_dir() and path not in kept:
                shutil.rmtree(path)

    @contextmanager
    def _held(self) -> Iterator[None]:
        if fcntl is None:
            yield
            return
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise AdapterInUseError(
                f"another training writes into {self.folder}; wait for it, or give another "
                "--version or --out"
            ) from None
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
            os.close(handle)


def declare_whole(checkpoint: Path) -> None:
    """Write the file that says that a checkpoint is written to its end."""
    sizes = {path.name: path.stat().st_size for path in checkpoint.iterdir() if path.is_file()}
    sizes.pop(WHOLE_FILE, None)
    made = checkpoint / f"{WHOLE_FILE}.tmp"
    made.write_text(json.dumps(sizes), encoding="utf-8")
    made.replace(checkpoint / WHOLE_FILE)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What the trainer noted of its progress."""
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    return state


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / WHOLE_FILE).read_text(encoding="utf-8"))
        return STATE_FILE in sizes and all(
            (checkpoint / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
