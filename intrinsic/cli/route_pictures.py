"""Pictures of a report: how far confidence can be trusted, and what is taken for what."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from intrinsic.cli.output import tell
from intrinsic.extras import how_to_install
from intrinsic.routing.evaluation import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 20
_NONE = "none fits"


def write_pictures(report: Report, folder: Path) -> list[Path]:
    """Write `reliability.png` and `confusion.png`; without matplotlib say so and write nothing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        tell("intrinsic: no pictures, for matplotlib is not installed; " + how_to_install("plots"))
        return []
    written = []
    for name, draw in (("reliability", draw_reliability), ("confusion", draw_confusion)):
        figure = Figure(figsize=(7, 6), layout="constrained")
        FigureCanvasAgg(figure)
        path = folder / f"{name}.png"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # letters that the font does not have
            draw(report, figure)
            figure.savefig(path, dpi=120)
        written.append(path)
    return written


def draw_reliability(report: Report, figure: Figure) -> None:
    """Draw the share that is right over the confidence, above how many answers there are."""
    full = [one for one in report.reliability if one.answers]
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="calibrated")
    upper.bar(
        [(one.low + one.high) / 2 for one in full],
        [one.accuracy for one in full],
        width=[0.94 * (one.high - one.low) for one in full],
        color="tab:blue",
        alpha=0.6,
        label="right",
    )
    upper.plot(
        [one.confidence for one in full],
        [one.accuracy for one in full],
        color="tab:blue",
        marker="o",
        linestyle="none",
    )
    upper.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    error = "" if report.ece is None else f", ECE {report.ece:.3f}"
    upper.set_title(f"{report.queries} queries{error}")
    upper.legend(loc="upper left")
    lower.bar(
        [(one.low + one.high) / 2 for one in full],
        [one.answers for one in full],
        width=[0.94 * (one.high - one.low) for one in full],
        color="0.5",
    )
    lower.axvline(report.threshold, color="tab:red", label="threshold")
    lower.set(xlabel="confidence of the first", ylabel="queries")
    lower.legend(loc="upper left")


def draw_confusion(report: Report, figure: Figure) -> None:
    """Draw how often one adapter was taken for another: the most frequent errors alone."""
    axes = figure.subplots()
    labels: dict[str | None, int] = {}
    for one in report.confusions:
        for label in (one.right, one.decided):
            if len(labels) < MOST_LABELS:
                labels.setdefault(label, len(labels))
    if not labels:
        axes.set_axis_off()
        axes.set_title("no errors")
        return
    counts = np.zeros((len(labels), len(labels)))
    for one in report.confusions:
        if one.right in labels and one.decided in labels:
            counts[labels[one.right], labels[one.decided]] = one.times
    axes.imshow(counts, cmap="Reds")
    for right, decided in zip(*np.nonzero(counts), strict=True):
        color = "white" if counts[right, decided] > 0.6 * counts.max() else "black"
        number = f"{counts[right, decided]:.0f}"
        axes.text(decided, right, number, color=color, ha="center", va="center")
    names = [_plain(label) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="decided", ylabel="right", title="most frequent errors")


def _plain(label: str | None) -> str:
    """A label as it is, cut, with `$` not read as mathematics."""
    return _NONE if label is None else label[:30].replace("$", r"\$")
