"""`intrinsic route fit FILE`: confidences fitted to labelled queries, and what that gains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from intrinsic.cli.output import print_json, print_table, tell
from intrinsic.cli.route import open_routing
from intrinsic.cli.session import SessionOptions
from intrinsic.errors import ConfigError
from intrinsic.routing.calibration import fit_calibration
from intrinsic.routing.evaluation import Report
from intrinsic.routing.labelled import Labelled, read_labelled
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.trial import ask_all, evaluate

FIGURES = ("ece", "e2e", "auroc", "a95", "top1")


async def run_fit(file: Path, out: Path, options: SessionOptions, as_json: bool) -> None:
    """Write what is fitted to all queries; print what fitting one half does for the other."""
    labelled = read_labelled(file)
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is no folder; name a file in one that exists with --out")
    half, rest = halves(labelled)
    plain = await open_routing(options)
    answers = [await ask_all(plain.ranking, part, plain.cards) for part in (half, rest)]
    before = await evaluate(plain.ranking, rest, plain.cards)
    fitted = await open_routing(options, RouterOptions(calibration=fit_calibration(answers[0])))
    after = await evaluate(fitted.ranking, rest, fitted.cards)
    fit_calibration([*answers[0], *answers[1]]).save(out)
    if as_json:
        print_json({"path": str(out), "before": asdict(before), "after": asdict(after)})
    else:
        _print(len(half), before, after)
    tell(f"{out} is written, fitted to all {len(labelled)} queries; use it with --calibration")


def halves(labelled: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Return every other query of each adapter, and of none, and the others.

    Raises `ConfigError` where one half would be empty.
    """
    seen: dict[str | None, int] = defaultdict(int)
    found: tuple[list[Labelled], list[Labelled]] = ([], [])
    for one in labelled:
        found[seen[one.adapter] % 2].append(one)
        seen[one.adapter] += 1
    if not found[1]:
        raise ConfigError(
            f"{len(labelled)} labelled queries are too few to measure on; give two per adapter"
        )
    return found


def _print(fitted: int, before: Report, after: Report) -> None:
    print_table(
        f"fitted to {fitted} queries, measured on {before.queries} others",
        ("figure", "before", "after"),
        [(name, _number(before, name), _number(after, name)) for name in FIGURES],
    )


def _number(report: Report, name: str) -> str:
    value = getattr(report, name)
    return "-" if value is None else f"{value:.4f}"
