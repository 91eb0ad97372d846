"""`intrinsic adapters list` and `intrinsic adapters show NAME`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from intrinsic.cli.output import print_json, print_table
from intrinsic.cli.session import open_registry
from intrinsic.registry import AdapterEntry

if TYPE_CHECKING:
    from intrinsic.config.sections import Project


def print_adapters(project: Project, *, as_json: bool) -> None:
    """Print the newest version of every adapter in its folder."""
    entries = open_registry(project).list_adapters()
    if as_json:
        print_json([_fields(entry) for entry in entries])
        return
    print_table(
        "adapters",
        ("name", "version", "domain", "base model", "size", "description"),
        [
            (
                entry.name,
                entry.card.version,
                entry.card.domain,
                entry.base_model,
                f"{_bytes_on_disk(entry) / 1e6:.2f} MB",
                entry.card.description,
            )
            for entry in entries
        ],
    )


def print_adapter(name: str, project: Project, *, as_json: bool) -> None:
    """Print everything about one adapter, its files checked."""
    from intrinsic.lora import read_checkpoint

    entry = open_registry(project).get_adapter(name)
    checkpoint = read_checkpoint(entry.path)
    fields = _fields(entry) | {
        "rank": sorted({factors.rank for factors in checkpoint.factors.values()}),
        "scale": sorted({factors.scale for factors in checkpoint.factors.values()}),
        "layers": len(checkpoint.factors),
        "digest": checkpoint.digest,
    }
    if as_json:
        print_json(fields)
        return
    rows = [(key, _text(value)) for key, value in fields.items()]
    print_table(entry.key, ("field", "value"), rows)


def _fields(entry: AdapterEntry) -> dict[str, object]:
    return asdict(entry.card) | {
        "base_model": entry.base_model,
        "path": str(entry.path),
        "bytes": _bytes_on_disk(entry),
    }


def _bytes_on_disk(entry: AdapterEntry) -> int:
    return sum(file.stat().st_size for file in entry.path.glob("*.safetensors"))


def _text(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
