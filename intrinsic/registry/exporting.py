"""A version written out as an ordinary PEFT folder, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from intrinsic.errors import AdapterError, CheckpointError, ConfigError
from intrinsic.registry.card_file import write_card
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.entry import CONFIG_NAME, AdapterEntry
from intrinsic.registry.inspection import WEIGHTS_NAME, digest_of
from intrinsic.registry.store.records import VersionRecord

_README = "README.md"


async def export(
    catalog: AdapterCatalog, key: str, folder: str | Path, *, force: bool = False
) -> Path:
    """Write a version's config, weights, card and provenance into a new folder; return that.

    `card.toml` says what the registry says, `provenance.json` what it knows of the training, if
    anything; a README goes along. Raises `AdapterExistsError` where there is something already,
    unless with `force` it is an adapter's folder, `ConfigError` where that is a version's own,
    `AdapterNotFoundError`, `CheckpointError` where the version's files have changed or are
    missing, and `AdapterError` where nothing can be written; then all is as it was.
    """
    import anyio.to_thread

    record = await catalog.get(key)
    taken = {one.path: one.key for one in await catalog.versions.all_live()}
    return await anyio.to_thread.run_sync(_export, record, folder, taken, force)


def _export(record: VersionRecord, folder: str | Path, taken: dict[Path, str], force: bool) -> Path:
    from intrinsic.lora.save import check_target, whole_folder

    target = check_target(folder, replace=force)
    if owner := taken.get(target.resolve()):
        raise ConfigError(
            f"{target} is the folder of {owner} itself and is not replaced; name another with --out"
        )
    try:
        with whole_folder(target) as made:
            _fill(made, record)
    except OSError as error:
        raise AdapterError(
            f"{target} cannot be written: {error.strerror or error}; "
            "name a folder that you may write to and that has room"
        ) from error
    return target


def _fill(made: Path, record: VersionRecord) -> None:
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (record.path / name).is_file():
            raise CheckpointError(
                f"{record.key} cannot be exported: {record.path} has no {name}; put it back"
            )
        shutil.copyfile(record.path / name, made / name)
    if digest_of(made) != record.digest:
        raise CheckpointError(
            f"{record.key} cannot be exported: the files in {record.path} are not those that were "
            "registered; put them back, or register what is there as a new version"
        )
    write_card(AdapterEntry(record.card, made), record.card)
    if record.provenance is not None:
        record.provenance.save(made)
    if (record.path / _README).is_file():
        shutil.copyfile(record.path / _README, made / _README)
