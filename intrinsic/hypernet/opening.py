"""A saved hypernetwork put to work beside a manager's stored adapters."""

from __future__ import annotations

from pathlib import Path

from intrinsic.errors import HypernetError
from intrinsic.hypernet.checkpoint import Saved, load, marks_of
from intrinsic.hypernet.encoders import TextEncoder, encoder_named
from intrinsic.hypernet.expert import InstantExpert, live_model
from intrinsic.hypernet.expert_options import ExpertOptions
from intrinsic.hypernet.marks import BaseMark, EncoderMark
from intrinsic.manager import AdapterManager
from intrinsic.mixture import BASE
from intrinsic.worker import run_to_end


async def open_expert(
    folder: str | Path,
    manager: AdapterManager,
    *,
    encoder: TextEncoder | None = None,
    options: ExpertOptions | None = None,
) -> InstantExpert:
    """Load a checkpoint for the manager's model, with its encoder and its gate, ready to answer.

    Without an `encoder` the one is made that the checkpoint names. Every base weight is read once,
    as the base model: what is merged is taken out for that. Raises `HypernetError` for another
    base, another encoder or a checkpoint without a gate, and what `InstantExpert` raises.
    """
    model = live_model(manager)

    def read() -> tuple[Saved, TextEncoder]:
        found = encoder or encoder_named(marks_of(folder)[1].name)
        base, mark = BaseMark.of(model, manager.backend.name), EncoderMark.of(found)
        return load(folder, base=base, encoder=mark), found

    async with manager.lease(BASE):
        saved, found = await run_to_end(read)
        if saved.gate is None:
            raise HypernetError(
                f"{folder} has no gate, without which any query would change the model; "
                "calibrate one and save it with the network"
            )
        return InstantExpert(saved.network, found, saved.gate, manager, options=options)
