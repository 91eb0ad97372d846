"""Where a training stands, on disk and back, so that it goes on as if nothing had happened."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from intrinsic.errors import HypernetError
from intrinsic.hypernet.curves import History
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.training.lora.checkpoints import STATE_FILE, Checkpoints, declare_whole, read_state

WEIGHTS_FILE = "state.pt"
_KEPT = 2
_DAMAGED = (
    RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError,
    pickle.UnpicklingError,
)  # fmt: skip


@dataclass(slots=True)
class State:
    """The steps made, the figures so far, and the best weights, where validation chose some."""

    step: int = 0
    best_step: int = 0
    best_loss: float | None = None
    waited: int = 0
    history: History = field(default_factory=History)
    best: dict[str, Tensor] | None = None

    def take(self, loss: float, network: HyperNetwork, *, counts: bool = True) -> bool:
        """Note a validation; True, and the weights are kept, where it is the lowest so far.

        One that does not count is noted alone.
        """
        self.history.validated.append((self.step, loss))
        if not counts:
            return False
        if self.best_loss is not None and not loss < self.best_loss:
            self.waited += 1
            return False
        self.best_step, self.best_loss, self.waited = self.step, loss, 0
        self.best = {name: t.detach().clone() for name, t in network.state_dict().items()}
        return True

    def save(
        self, checkpoints: Checkpoints, network: HyperNetwork, optimizer: torch.optim.Optimizer
    ) -> Path:
        """Write a checkpoint, whole or not at all, and remove those of long ago."""
        folder = checkpoints.at(self.step)
        folder.mkdir(exist_ok=True)
        tensors = {
            "network": network.state_dict(),
            "best": self.best,
            "optimizer": optimizer.state_dict(),
        }
        torch.save(tensors, folder / WEIGHTS_FILE)
        (folder / STATE_FILE).write_text(json.dumps(self._figures()), encoding="utf-8")
        declare_whole(folder)
        for _, old in checkpoints.whole()[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return folder

    @classmethod
    def load(cls, folder: Path, network: HyperNetwork, optimizer: torch.optim.Optimizer) -> State:
        """Read a whole checkpoint into the network and its optimizer.

        Raises `HypernetError` for one whose bytes are damaged.
        """
        device = next(network.parameters()).device
        try:
            figures = read_state(folder)
            figures |= {name: int(figures[name]) for name in ("step", "best_step", "waited")}
            history = History.of(figures.pop("history"))
            tensors = torch.load(folder / WEIGHTS_FILE, map_location=device, weights_only=True)
            state = cls(**figures, history=history, best=tensors["best"])
            optimizer.load_state_dict(tensors["optimizer"])
            network.load_state_dict(tensors["network"])
        except _DAMAGED as error:
            raise HypernetError(
                f"the checkpoint {folder} is damaged ({type(error).__name__}); remove it to go on "
                "from the one before it, or begin anew with --no-resume"
            ) from error
        return state

    def _figures(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "best_step": self.best_step,
            "best_loss": self.best_loss,
            "waited": self.waited,
            "history": self.history.as_json(),
        }
