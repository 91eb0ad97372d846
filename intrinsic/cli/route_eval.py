"""`intrinsic route eval FILE`: the report on a terminal, as JSON, and as pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from intrinsic.cli.out import check_folder
from intrinsic.cli.output import OurConsole, print_json, print_table, tell
from intrinsic.cli.route import Routing, open_routing
from intrinsic.cli.route_pictures import write_pictures
from intrinsic.config import Settings
from intrinsic.errors import ConfigError
from intrinsic.routing.card_lines import one_line
from intrinsic.routing.evaluation import Report
from intrinsic.routing.labelled import Labelled, read_labelled
from intrinsic.routing.trial import evaluate

SHARES = ("top1", "top2", "top3", "macro_f1", "auroc", "a95", "e2e", "ece")
_CONFUSIONS_SHOWN = 10
_EXAMPLE_CHARS = 60


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What to measure on, and where to write."""

    file: Path
    out: Path | None = None
    threshold: float | None = None
    unknown_as_none: bool = False

    @property
    def folder(self) -> Path:
        """Where report and pictures go: by default into the current folder's FILE-report."""
        return self.out or Path(f"{self.file.stem}-report")


async def run_evaluation(request: Evaluation, settings: Settings, as_json: bool) -> None:
    """Measure, print, and write `report.json`, `reliability.png` and `confusion.png`."""
    labelled = read_labelled(request.file)
    folder = request.folder
    check_folder(folder, "report.json", request.file)
    routing = await open_routing(settings, settings.router_options())
    report = await _measured(request, labelled, routing)
    degraded = getattr(routing.ranking, "degraded", "")
    router = str(settings.value("routing.router"))
    fields = {"file": str(request.file), "router": router, "adapters": len(routing.cards)}
    found = fields | {"degraded": degraded} | asdict(report)
    path = _made(folder) / "report.json"
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print_json(found)
    else:
        _print(report, router)
    shown = {example for card in routing.cards for example in card.examples}
    if known := sum(one.text in shown for one in labelled):
        tell(f"intrinsic: {known} queries are examples of the cards; the figures are too good")
    if degraded:
        tell(f"intrinsic: measured by words alone: {degraded}")
    tell(f"{path} is written")
    for picture in write_pictures(report, folder):
        tell(f"{picture} is written")


async def _measured(request: Evaluation, labelled: list[Labelled], routing: Routing) -> Report:
    console = OurConsole(stderr=True)
    columns = (TextColumn("routing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("routing", total=len(labelled))
        return await evaluate(
            routing.ranking,
            labelled,
            routing.cards,
            threshold=request.threshold,
            unknown_as_none=request.unknown_as_none,
            progress=lambda count: bar.update(task, advance=count),
        )


def _print(report: Report, router: str) -> None:
    values = asdict(report)
    rows = [(name, str(values[name])) for name in ("queries", "in_scope", "out_of_scope")]
    rows.append(("threshold", f"{report.threshold:g}"))
    rows += [(name, "-" if values[name] is None else f"{values[name]:.4f}") for name in SHARES]
    print_table(f"router {router}", ("figure", "value"), rows)
    if report.confusions:
        print_table(
            "most frequent errors",
            ("right", "decided", "times", "for example"),
            [
                (
                    one.right or "none",
                    one.decided or "none",
                    str(one.times),
                    one_line(one.example, _EXAMPLE_CHARS),
                )
                for one in report.confusions[:_CONFUSIONS_SHOWN]
            ],
        )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made: {error.strerror or error}; name another folder with --out"
        ) from error
    return folder
