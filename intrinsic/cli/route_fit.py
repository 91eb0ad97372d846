"""`intrinsic route fit FILE`: confidences fitted to labelled queries, and what that gains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from intrinsic.cli.out import check_file
from intrinsic.cli.output import print_json, print_table, tell
from intrinsic.cli.route import open_routing
from intrinsic.config import Settings
from intrinsic.errors import ConfigError
from intrinsic.routing.calibration import LEAST_QUERIES, fit_calibration
from intrinsic.routing.evaluation import Report
from intrinsic.routing.labelled import Labelled, read_labelled
from intrinsic.routing.options import RouterOptions
from intrinsic.routing.trial import ask_all, evaluate

FIGURES = ("ece", "e2e", "auroc", "a95", "top1")


async def run_fit(file: Path, out: Path, settings: Settings, as_json: bool) -> None:
    """Write what is fitted to all queries; print what fitting one half does for the other."""
    labelled = read_labelled(file)
    _check(labelled, file)
    check_file(out, file)
    half, rest = halves(labelled)
    options = settings.router_options(calibrated=False)
    plain = await open_routing(settings, options)
    answers = [await ask_all(plain.ranking, part, plain.cards) for part in (half, rest)]
    fitted = fit_calibration([*answers[0], *answers[1]])
    before = after = None
    try:
        if len(rest) < LEAST_QUERIES:
            raise ConfigError(f"one half of {len(labelled)} queries is too few to measure on")
        on_half = replace(options or RouterOptions(), calibration=fit_calibration(answers[0]))
    except ConfigError as error:
        tell(f"intrinsic: before and after are not measured: {error}")
    else:
        before = await evaluate(plain.ranking, rest, plain.cards)
        tried = await open_routing(settings, on_half)
        after = await evaluate(tried.ranking, rest, tried.cards)
    fitted.save(out)
    if as_json:
        figures = {"before": before and asdict(before), "after": after and asdict(after)}
        print_json({"path": str(out)} | figures)
    elif before and after:
        _print(len(half), before, after)
    tell(f"{out} is written, fitted to all {len(labelled)} queries; use it with --calibration")


def _check(labelled: Sequence[Labelled], file: Path) -> None:
    if len(labelled) < LEAST_QUERIES:
        raise ConfigError(
            f"{file} has {len(labelled)} labelled queries; a calibration needs {LEAST_QUERIES}, "
            "better some hundreds, as users ask them and with some that fit nothing"
        )
    if all(one.adapter is not None for one in labelled):
        raise ConfigError(
            f"none of the {len(labelled)} queries of {file} fits nothing, so the confidences would "
            'come to say that some adapter always fits; add at least one with "adapter": null, '
            "better a hundred"
        )


def halves(labelled: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Return every other query of each adapter, and of none, and the others."""
    seen: dict[str | None, int] = defaultdict(int)
    found: tuple[list[Labelled], list[Labelled]] = ([], [])
    for one in labelled:
        found[seen[one.adapter] % 2].append(one)
        seen[one.adapter] += 1
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
