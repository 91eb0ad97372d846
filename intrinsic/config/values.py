"""Layers merged and their values parsed, by pydantic-settings."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, SecretStr, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from intrinsic.config.keys import KEYS, Key, alternatives
from intrinsic.config.layers import Fault, Given, Layer
from intrinsic.config.registry_name import RegistryName
from intrinsic.config.wording import NONE, refused

_REGISTRY = "registry"
_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _LayerSource(PydanticBaseSettingsSource):
    """One layer, as pydantic-settings asks for it."""

    def __init__(self, settings_cls: type[BaseSettings], layer: Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for path, one in self._layer.given.items():
            *sections, name = path.split(".")
            inner = functools.reduce(lambda at, part: at.setdefault(part, {}), sections, tree)
            inner[name] = one.value
        return tree


class _Layered(BaseSettings):
    """Settings whose sources are the layers that it is called with."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=False
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(init_settings, InitSettingsSource)
        layers: Sequence[Layer] = init_settings.init_kwargs["layers"]
        return tuple(_LayerSource(settings_cls, layer) for layer in layers)


def parse(layers: Sequence[Layer]) -> tuple[dict[str, Any], list[Fault]]:
    """The values of all keys that were said, by path, and what is of a wrong kind.

    Of a key the highest layer counts; tables of names are merged, name by name.
    """
    model, faults = _model(), list[Fault]()
    while True:
        failed: dict[str, str] = {}
        try:
            values = model(layers=layers)
        except ValidationError as error:
            for one in error.errors(include_url=False, include_context=False, include_input=False):
                failed.setdefault(_path(one["loc"]), ".".join(map(str, one["loc"])))
        else:
            said = {path for layer in layers for path in layer.given}
            found = {path: _value(values, path) for path in KEYS if path in said}
            if found.get(_REGISTRY) is not None:
                found[_REGISTRY] = RegistryName(found[_REGISTRY])
            return found, faults
        for path, place in failed.items():
            given = _culprit([layer.given[path] for layer in layers if path in layer.given], place)
            faults.append(Fault(path, given.origin, refused(given.key, given.value, place)))
        layers = [layer.without(set(failed)) for layer in layers]


@functools.cache
def _model() -> type[BaseSettings]:
    made: type[BaseSettings] = _built("Values", [p.split(".") for p in KEYS], "", _Layered)
    return made


def _built(name: str, paths: list[list[str]], prefix: str, base: type[Any] | None) -> Any:  # noqa: ANN401
    """A model with the keys as fields, and a model for each section within."""
    fields: dict[str, Any] = {}
    for first in dict.fromkeys(path[0] for path in paths):
        within = [path[1:] for path in paths if path[0] == first and len(path) > 1]
        if within:
            inner = _built(f"{name}_{first}", within, f"{prefix}{first}.", None)
            fields[first] = (inner | None, None)
        else:
            fields[first] = (_annotated(KEYS[prefix + first]), None)
    if base is not None:
        return create_model(name, __base__=base, **fields)
    return create_model(name, __config__=_STRICT, **fields)


def _annotated(key: Key) -> Any:  # noqa: ANN401
    kind = key.type
    if key.is_secret:
        kind = SecretStr | None if key.accepts(types.NoneType) else SecretStr
    return Annotated[kind, BeforeValidator(functools.partial(_prepared, key))]


def _prepared(key: Key, value: object) -> object:
    """Raise `ValueError` for what pydantic would take for a number or a path, and is none."""
    if isinstance(value, str):
        if value.lower() == NONE and key.accepts(types.NoneType):
            return None
        if key.accepts(tuple):
            value = (value,)
        elif key.is_path:
            return _home(value)
    if isinstance(value, Path) and not key.accepts(Path):
        return str(value)
    if isinstance(value, bool) and bool not in alternatives(key.type):
        raise ValueError("a truth")
    if key.is_path and isinstance(value, list | tuple):
        return [_home(one) if isinstance(one, str) else one for one in value]
    return value


def _home(text: str) -> Path:
    """The path, with `~` replaced; an empty one is none, nor is a URL."""
    if not text.strip() or "\0" in text or "://" in text:
        raise ValueError("no path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("no home") from error


def _path(place: tuple[int | str, ...]) -> str:
    """The key of a place in the values, which may lie within its value."""
    parts = [str(part) for part in place]
    found = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(path for path in found if path in KEYS)


def _culprit(said: Sequence[Given], place: str) -> Given:
    """Of a table, which is merged of several places, the highest that says what is wrong."""
    parts = place.removeprefix(said[0].key.path).split(".")[1:]
    return next((one for one in said if _says(one.value, parts)), said[0])


def _says(value: object, parts: Sequence[str]) -> bool:
    if not parts or not isinstance(value, Mapping):
        return not isinstance(value, Mapping)
    return parts[0] in value and (len(parts) == 1 or _says(value[parts[0]], parts[1:]))


def _value(values: object, path: str) -> Any:  # noqa: ANN401
    return functools.reduce(getattr, path.split("."), values)
