"""Settings read from flags, environment and files, with everything that is wrong in them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from intrinsic.config.keys import KEYS, REQUIRED, Key
from intrinsic.config.layers import Fault, Given, Layer, layers_of
from intrinsic.config.making import make_all
from intrinsic.config.settings import Settings
from intrinsic.config.values import parse
from intrinsic.config.wording import NONE
from intrinsic.errors import SettingsError

_PLACES = ("registry", "adapters")
"""Two ways to say the same: the higher layer counts."""


def load_settings(
    flags: Mapping[str, object] | None = None,
    *,
    flag_names: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> Settings:
    """Read all settings, once; what counts most comes first:

    1. `flags`, by key (`{"routing.top_k": 3}`); None is as none, `flag_names` are for messages
    2. the environment: `INTRINSIC_ROUTING__TOP_K=3`
    3. `intrinsic.toml` in `cwd`, then `[tool.intrinsic]` in its `pyproject.toml`
    4. `~/.config/intrinsic/config.toml`
    5. the defaults

    Raises `SettingsError`, which has a sentence for every fault.
    """
    settings, faults = examine_settings(flags, flag_names=flag_names, environ=environ, cwd=cwd)
    if faults:
        raise SettingsError(fault.sentence for fault in faults)
    return settings


def examine_settings(
    flags: Mapping[str, object] | None = None,
    *,
    flag_names: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> tuple[Settings, tuple[Fault, ...]]:
    """As `load_settings`, with the faults beside the settings that are left without them."""
    layers: Sequence[Layer] = layers_of(
        flags or {},
        flag_names or {},
        os.environ if environ is None else environ,
        Path.cwd() if cwd is None else Path(cwd),
    )
    faults = [fault for layer in layers for fault in layer.faults]
    layers, doubled = _one_place(layers)
    values, wrong = parse(layers)
    origins = {path: _origin(layers, path) for path in values}
    made, refusals = make_all(values)
    refused = [Fault(one.key.path, _place(origins, one.key), one.message) for one in refusals]
    sound = {path: value for path, value in values.items() if path not in {r.path for r in refused}}
    defaults = {p: None if k.default is REQUIRED else k.default for p, k in KEYS.items()}
    settings = Settings(
        MappingProxyType({path: _frozen(value) for path, value in (defaults | sound).items()}),
        MappingProxyType({path: origins[path] for path in sound}),
        MappingProxyType(made),
    )
    return settings, (*faults, *doubled, *wrong, *refused)


def _one_place(layers: Sequence[Layer]) -> tuple[list[Layer], list[Fault]]:
    """Only the highest of the layers that say where the adapters are counts in that.

    No registry leaves a folder of a lower one; no folder means the bundled one.
    """
    found: list[Layer] = []
    faults: list[Fault] = []
    decided: set[str] = set()
    for below in layers:
        layer = below.without(decided)
        found.append(layer)
        said = [layer.given[path] for path in _PLACES if path in layer.given]
        if len(said) > 1 and all(map(_is_something, said)):
            first, second = (one.origin for one in said)
            both = "registry and adapters" if first == second else f"{first} and {second}"
            message = f"{both} both say where the adapters are; use one of them"
            faults.append(Fault(_PLACES[0], first if first == second else "", message))
        if any(_is_something(one) or one.key.path == "adapters" for one in said):
            decided.update(_PLACES)
        elif said:
            decided.add(said[0].key.path)
    return found, faults


def _frozen(value: object) -> object:
    return MappingProxyType(dict(value)) if isinstance(value, Mapping) else value


def _is_something(given: Given) -> bool:
    return not (isinstance(given.value, str) and given.value.lower() == NONE)


def _place(origins: Mapping[str, str], key: Key) -> str:
    """Where a key was said; of one that is missing, where another of its section was."""
    if key.path in origins:
        return origins[key.path]
    others = (path for path in origins if path.startswith(f"{key.section.name}."))
    return next((origins[path] for path in others if not KEYS[path].is_secret), "")


def _origin(layers: Sequence[Layer], path: str) -> str:
    """The highest place that says it; for a table, whose names are merged, all that do."""
    said = [layer.given[path].origin for layer in layers if path in layer.given]
    return " and ".join(said) if KEYS[path].is_table else said[0]
