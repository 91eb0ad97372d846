"""Is this adapter for that model? By architecture and shapes as well as by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from intrinsic.registry.inspection import Inspection
from intrinsic.registry.signature import ModelSignature

Verdict = Literal["compatible", "incompatible", "unknown"]

_IN_CACHE = re.compile(r"models--(?:[^/]*--)?(?P<name>[^/]+)/snapshots/[^/]+")
"""How the cache of the Hugging Face hub names a model's folder."""


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Whether an adapter is for a model, and why, in one sentence."""

    verdict: Verdict
    reason: str

    def allows(self, *, forced: bool = False) -> bool:
        """Whether the adapter may be used: "unknown" only where the user insists."""
        return self.verdict == "compatible" or (forced and self.verdict == "unknown")


def check(
    adapter: Inspection, recorded: ModelSignature | None, model_name: str, model: ModelSignature
) -> Compatibility:
    """Judge by the shapes, by the base's `recorded` signature, and without one by its name.

    A layer that the model lacks or has in another shape, or a recorded signature that differs, is
    incompatible whatever the names say. Equal signatures are compatible whatever the names say, so
    that a copy under another name matches. Without a recorded signature it takes the same name
    (its last part, in upper or lower case) and shapes that are known to fit; the rest is unknown.
    """
    if problems := _misfits(adapter, model):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Compatibility(
            "incompatible", f"it does not fit {_of(model_name)}: {problems[0]}{more}"
        )
    same = None if recorded is None else recorded.is_same_kind(model)
    if recorded is not None and same is False:
        differences = ", ".join(recorded.differences(model)[:3])
        return Compatibility(
            "incompatible",
            f"its base model is of another kind than {_of(model_name)}: {differences}",
        )
    if same:
        return Compatibility(
            "compatible", f"its base model has the architecture and sizes of {_of(model_name)}"
        )
    return _by_name(adapter.base_model, model_name, fits=bool(model.modules))


def last_part(name: str) -> str:
    """A model's name without owner or folder, in lower case; "" where it has none."""
    parts = name.strip().replace("\\", "/").rstrip("/")
    in_cache = _IN_CACHE.search(parts)
    last = in_cache["name"] if in_cache else parts.rpartition("/")[2]
    return "" if last in (".", "..", "~") else last.lower()


def _misfits(adapter: Inspection, model: ModelSignature) -> list[str]:
    """What the engine would refuse too; nothing where the model's layers are not known."""
    if not model.modules:
        return []
    found = []
    for name, (into, out) in adapter.modules.items():
        shape = model.modules.get(name)
        if shape is None:
            found.append(f"the model has no layer {name}")
        elif shape != (into, out):
            found.append(f"{name} maps {shape[0]} to {shape[1]}, the adapter maps {into} to {out}")
    return found


def _by_name(base: str, model_name: str, *, fits: bool) -> Compatibility:
    if not base:
        return Compatibility("unknown", "it does not say for which base model it was made")
    same = last_part(base) == last_part(model_name) != ""
    if not fits:
        says = "names this model" if same else f"was made for {base!r}"
        return Compatibility(
            "unknown", f"it {says}, but whether its shapes fit {_of(model_name)} is not known"
        )
    if same:
        return Compatibility("compatible", f"it was made for {base!r}, and all shapes fit")
    return Compatibility(
        "unknown", f"its shapes fit {_of(model_name)}, but it was made for {base!r}"
    )


def _of(model_name: str) -> str:
    return repr(model_name) if model_name else "this model"
