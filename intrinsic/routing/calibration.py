"""Confidences fitted to one team's own queries: `p' = σ(slope · logit p + shift)`."""

from __future__ import annotations

import json
import math
import shutil
import uuid
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

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A slope above 0 and a shift of log-odds, and the number of queries that they come from.

    Raises `ConfigError` for numbers that are none, and for a count below 0.
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
        if self.queries < 0:
            raise ConfigError(f"a calibration of {self.queries} queries is not valid; 0 or more")

    def applied(self, p: Floats) -> Floats:
        """Return calibrated probabilities; 0 and 1 stay what they are. Shape: any."""
        with np.errstate(over="ignore"):
            found = 1.0 / (1.0 + np.exp(-(self.slope * log_odds(p) + self.shift)))
        calibrated: Floats = np.where((p <= 0.0) | (p >= 1.0), p, found)
        return calibrated

    def save(self, path: Path) -> None:
        """Write the calibration as JSON, whole or not at all; raises `OSError`."""
        file = path.resolve()
        made = file.with_name(f".{file.name}-{uuid.uuid4().hex}.tmp")
        try:
            made.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
            if file.exists():
                shutil.copymode(file, made)
            made.replace(file)
        finally:
            made.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote; raises `ConfigError` for anything else."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise _none(path, f"it cannot be read: {error.strerror or error}") from None
        except (ValueError, RecursionError):
            raise _none(path, "it cannot be read as JSON") from None
        if not isinstance(values, dict):
            raise _none(path, "it holds no object")
        for key in ("slope", "shift", "queries"):
            if key not in values:
                raise _none(path, f"{key} is missing")
            if isinstance(values[key], bool) or not isinstance(values[key], int | float):
                raise _none(path, f"{key} must be a number")
        try:
            slope, shift = float(values["slope"]), float(values["shift"])
        except OverflowError:
            slope = shift = math.inf
        if not (math.isfinite(slope) and slope > 0.0 and math.isfinite(shift)):
            raise _none(path, "the slope must be above 0, and slope and shift finite")
        queries = values["queries"]
        if not isinstance(queries, int) or queries < 0:
            raise _none(path, "queries must be a whole number, 0 or more")
        return cls(slope, shift, queries)


def _none(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path} is no calibration, {why}; name a file that 'intrinsic route fit' wrote"
    )


def fit_calibration(answers: Sequence[Answer]) -> Calibration:
    """Fit the first confidences of a router without a calibration to whether they were right.

    Few queries change little: the fit is drawn to what it was. A slope of 0 or less, which says
    that confidences do not go with being right, is a `ConfigError`, as are fewer than 20 queries,
    and queries that are all answered rightly or all wrongly.
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
        advice = "add queries that no adapter fits" if right.all() else "check the labels"
        raise ConfigError(
            f"all {len(answers)} first answers are {which}, so there is nothing to tell apart; "
            f"{advice}"
        )
    slope, shift = scaling(log_odds(p), right, np.ones(len(p)), ridge=_RIDGE)
    if not slope > 0.0:
        raise ConfigError(
            f"of {len(answers)} queries those with a high confidence are no more often right than "
            f"the others (slope {slope:.2f}), so labels or router are at fault; check the labels, "
            "or take another router"
        )
    return Calibration(slope, shift, len(answers))
