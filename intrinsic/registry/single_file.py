"""An adapter that is one safetensors file and its config, made into a PEFT folder."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from intrinsic.errors import AdapterError, AdapterExistsError, CheckpointError
from intrinsic.registry.entry import CONFIG_NAME
from intrinsic.registry.inspection import WEIGHTS_NAME, inspect

_UNSAFE = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}


def from_single_file(weights: Path, config: Path | None, into: Path) -> Path:
    """Copy a file of weights and its config into the new folder `into` and return that.

    Without `config` it is `<stem>.json` or else `adapter_config.json`, beside the weights. The
    copies are inspected before the folder gets its name; until then it is `.<name>-<hex>.tmp`
    beside it, which only a kill leaves. The given files stay as they are. Raises
    `CheckpointError` or `UnsupportedAdapterError` for what is missing or not sound,
    `AdapterExistsError` where there is something at `into`, and `AdapterError` where the system
    does not let them be copied.
    """
    weights, into = _expanded(weights), _expanded(into).absolute()
    _check_weights(weights)
    config = _config_of(weights) if config is None else _existing(_expanded(config))
    if into.exists() or into.is_symlink():
        raise AdapterExistsError(f"{into} exists already; name a folder that does not")
    try:
        return _made(weights, config, into)
    except OSError as error:
        raise AdapterError(
            f"{weights} and {config} cannot be copied to {into}: {error.strerror or error}; "
            "name files that you may read and a folder that you may write to"
        ) from error


def _made(weights: Path, config: Path, into: Path) -> Path:
    room = into.with_name(f".{into.name}-{uuid.uuid4().hex}.tmp")
    missing = [folder for folder in into.parents if not folder.exists()]
    try:
        room.mkdir(parents=True)
        for source, name in ((config, CONFIG_NAME), (weights, WEIGHTS_NAME)):
            shutil.copyfile(source, room / name)
        try:
            inspect(room)
        except AdapterError as error:
            raise type(error)(_of_sources(error, room, weights, config)) from None
        room.rename(into)
    except BaseException:
        shutil.rmtree(room, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise
    return into


def _of_sources(error: AdapterError, room: Path, weights: Path, config: Path) -> str:
    """The message with the files that the user named, not the copies."""
    text = str(error).replace(str(room / WEIGHTS_NAME), str(weights))
    return text.replace(str(room / CONFIG_NAME), str(config))


def _check_weights(weights: Path) -> None:
    if weights.suffix in _UNSAFE:
        raise CheckpointError(
            f"{weights} is a pickle, which can run code; save it with safetensors"
        )
    if weights.suffix != ".safetensors":
        raise CheckpointError(
            f"{weights} is no .safetensors file; name one, or the folder of an adapter"
        )
    _existing(weights)


def _config_of(weights: Path) -> Path:
    choices = (weights.with_suffix(".json"), weights.with_name(CONFIG_NAME))
    for path in choices:
        if path.is_file():
            return path
    raise CheckpointError(
        f"{weights} has no config: neither {choices[0].name} nor {CONFIG_NAME} lies beside it; "
        "name the adapter_config.json that PEFT saved with it"
    )


def _existing(path: Path) -> Path:
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if not path.is_file():
        raise CheckpointError(f"{path} is no plain file")
    return path


def _expanded(path: Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{path} cannot be found: {error}") from None
