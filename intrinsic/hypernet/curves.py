"""How a training went: its figures by step, and a picture of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Points = list[tuple[int, float]]


@dataclass(slots=True)
class History:
    """Losses by step: of training, of nonsense queries (KL), of the warm-up, of validation."""

    learned: Points = field(default_factory=list)
    nonsense: Points = field(default_factory=list)
    warm_up: Points = field(default_factory=list)
    validated: Points = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return plain values, which `of` takes."""
        return {name: [list(point) for point in getattr(self, name)] for name in self.__slots__}

    @classmethod
    def of(cls, stored: dict[str, Any]) -> History:
        """What `as_json` gave."""
        return cls(
            **{name: [(int(s), float(v)) for s, v in points] for name, points in stored.items()}
        )


def draw_curves(history: History, path: Path) -> bool:
    """Write a PNG of the losses over the steps; False, and nothing written, without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = (
        ("training", _smoothed(history.learned), "tab:blue"),
        ("validation", history.validated, "tab:orange"),
        ("nonsense (KL)", history.nonsense, "tab:gray"),
        ("warm-up (ΔW)", history.warm_up, "tab:green"),
    )
    for label, points, color in shown:
        if points:
            axes.plot(*zip(*points, strict=True), label=label, color=color)
    axes.set(xlabel="step", ylabel="nats per answer token", yscale="symlog")
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    return True


def _smoothed(points: Points, window: int = 20) -> Points:
    """Means of so many neighbours, where there are more points than a picture can show."""
    if len(points) <= 10 * window:
        return points
    parts = [points[at : at + window] for at in range(0, len(points), window)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]
