"""Whether an adapter is for a text encoder, by headers and config alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from intrinsic.errors import CheckpointError


def demand_fit(adapter: str | Path, encoder: Path) -> None:
    """Look at an adapter's folder and at its layers in an encoder's.

    Raises `CheckpointError` or `UnsupportedAdapterError` where the adapter is not sound, and
    `CheckpointError` where it is for another encoder, or where the encoder's config is none.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    from intrinsic.backends.pretrained import UNSOUND, why_unsound
    from intrinsic.embedding.layer_names import as_encoder_names
    from intrinsic.lora import Digest, LoraCheckpoint
    from intrinsic.lora.checkpoint import read_outline_of
    from intrinsic.registry.compatibility import check
    from intrinsic.registry.inspection import inspect_header
    from intrinsic.registry.signature import ModelSignature

    inspection = inspect_header(adapter)
    config, factors = read_outline_of(adapter)
    try:
        settings = AutoConfig.from_pretrained(str(encoder), local_files_only=True)
        with torch.device("meta"):
            outline = AutoModel.from_config(settings)
    except UNSOUND as error:
        raise CheckpointError(
            f"the config of encoder {encoder} cannot be read: {why_unsound(error)}"
        ) from None
    found = LoraCheckpoint(Path(adapter), config, factors, Digest([]), bytes_used=0)
    named = as_encoder_names(found, outline).factors
    modules = {name: (int(one.A.shape[1]), one.out_features) for name, one in named.items()}
    verdict = check(
        replace(inspection, modules=modules), None, encoder.name, ModelSignature.of_model(outline)
    )
    if verdict.verdict == "incompatible":
        raise CheckpointError(f"adapter {adapter} is not for the encoder: {verdict.reason}")


def demand_config(encoder: Path) -> None:
    """Read the config and the list of modules of an encoder's folder, where it has them.

    Raises `CheckpointError` where one is not sound.
    """
    from transformers import AutoConfig

    from intrinsic.backends.pretrained import UNSOUND, why_unsound

    try:
        if (encoder / "config.json").is_file():
            AutoConfig.from_pretrained(str(encoder), local_files_only=True)
        modules = encoder / "modules.json"
        if modules.is_file() and not isinstance(json.loads(modules.read_bytes()), list):
            raise ValueError("modules.json holds no list")
    except (*UNSOUND, RecursionError) as error:
        raise CheckpointError(
            f"the config of encoder {encoder} cannot be read: {why_unsound(error)}"
        ) from None
