"""A mixture as clients write it."""

from __future__ import annotations

from intrinsic.mixture import Mixture


def shown(mixture: Mixture) -> str:
    """The mixture in a line: `a@1:0.7+b@2:0.3`, or `base`."""
    return "+".join(f"{key}:{weight:.4g}" for key, weight in mixture.entries) or "base"
