"""Confidences fitted to one team's own queries: `p' = σ(slope · logit p + shift)`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from intrinsic.errors import ConfigError
from intrinsic.routing.scaling_odds import log_odds, scaling

if TYPE_CHECKING:
    from intrinsic.routing.evaluation import Answer

LEAST_QUERIES = 20
_RIDGE = 2.0
_KEYS = ("slope", "shift", "queries")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A slope above 0 and a shift of log-odds, and the number of queries that they come from.

    Raises `ConfigError` for numbers that are none.
    """

    slope: float
    shift: float
    queries: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and self.slope > 0.0 and math.isfinite(self.shift)):
            raise ConfigError(
                f"a calibration of slope {self.slope} and shift {self.shift} is not valid; the "
                "slope must be above 0 and both finite"
            )

    def applied(self, p: Floats) -> Floats:
        """Return calibrated probabilities; 0 and 1 stay what they are. Shape: any."""
        with np.errstate(over="ignore"):
            found = 1.0 / (1.0 + np.exp(-(self.slope * log_odds(p) + self.shift)))
        calibrated: Floats = np.where((p <= 0.0) | (p >= 1.0), p, found)
        return calibrated

    def save(self, path: Path) -> None:
        """Write the calibration as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote; raises `ConfigError` for anything else."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(float(values["slope"]), float(values["shift"]), int(values["queries"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is no calibration ({error!r}); it must be JSON with {', '.join(_KEYS)}, "
                "as 'intrinsic route fit' writes it"
            ) from None


def fit_calibration(answers: Sequence[Answer]) -> Calibration:
    """Fit the first confidences of a router without a calibration to whether they were right.

    Few queries change little: the fit is drawn to what it was. A slope of 0 or less, which says
    that the router is no better than chance, is a `ConfigError`, as are fewer than 20 queries, and
    queries that are all answered rightly or all wrongly.
    """
    if len(answers) < LEAST_QUERIES:
        raise ConfigError(
            f"there are {len(answers)} labelled queries; a calibration needs {LEAST_QUERIES}, "
            "better some hundreds, as users ask them and with some that fit nothing"
        )
    p = np.array([answer.confidence for answer in answers], np.float64)
    right = np.array(
        [answer.right is not None and answer.first == answer.right for answer in answers], np.bool_
    )
    if right.all() or not right.any():
        which = "right" if right.all() else "wrong"
        raise ConfigError(
            f"all {len(answers)} first answers are {which}, so there is nothing to tell apart; "
            "add queries that no adapter fits"
        )
    slope, shift = scaling(log_odds(p), right, np.ones(len(p)), ridge=_RIDGE)
    return Calibration(slope, shift, len(answers))
