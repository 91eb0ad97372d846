"""`intrinsic hypernet`: what the commands do and print."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from intrinsic.cli.output import print_json, print_table, tell
from intrinsic.cli.stopped import told_when_stopped
from intrinsic.cli.train_progress import shown
from intrinsic.errors import ConfigError
from intrinsic.hypernet.job import HypernetJob
from intrinsic.hypernet.plan import HypernetPlan
from intrinsic.hypernet.tasks import chosen, read_tasks
from intrinsic.training.lora.train import need_packages


def options_of(texts: Sequence[str]) -> dict[str, Any]:
    """An architecture's options from `NAME=VALUE`, values as in JSON. Raises `ConfigError`."""
    found: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            raise ConfigError(
                f"--option is {text!r:.80}; write NAME=VALUE with a number, true or false"
            ) from None
    return found


def run_hypernet_train(job: HypernetJob, plan: HypernetPlan, *, as_json: bool) -> None:
    """Train, write, and print what came of it; a signal ends with its exit code."""
    read_tasks(job.data)  # what is wrong with it is told before torch is imported, which takes long
    from intrinsic.hypernet.making import CURVES, make_hypernet

    with _quiet(), told_when_stopped(), shown(quiet=as_json) as progress:
        made = make_hypernet(job, plan, progress)
    if as_json:
        print_json(made.as_json())
        return
    trained, gate = made.trained, made.calibration
    rows = [
        ("tasks learned", str(len(made.parts.learned))),
        ("parameters", f"{made.sizes['parameters']:,}"),
        ("payload of a query, bytes", f"{made.sizes['payload_bytes']:,}"),
        ("training loss, nats per answer token", _figure(trained.train_loss)),
        ("validation loss", _figure(trained.validation_loss)),
        ("the gate refuses, of descriptions", f"{100 * gate.refused_good:.1f} %"),
        ("the gate refuses, of nonsense", f"{100 * gate.refused_nonsense:.1f} %"),
    ]
    print_table(f"hypernetwork {made.folder.name}", ("figure", "value"), rows)
    drawn = f"; its losses are drawn in {CURVES}" if (made.folder / CURVES).is_file() else ""
    tell(
        f"{made.folder} is written: step {trained.best_step} of {trained.steps}, in "
        f"{trained.seconds:.1f} s{drawn}"
    )


def run_hypernet_eval(
    folder: Path,
    data: Path,
    base: str | None,
    tasks: Sequence[str],
    rows: int | None,
    *,
    as_json: bool,
) -> None:
    """Score tasks with and without the hypernetwork, and print a line for each."""
    known = read_tasks(data)
    wanted = chosen(known, tasks) if tasks else known
    from intrinsic.hypernet.offline import judge, knows_data, open_hypernet

    with _quiet():
        opened = open_hypernet(folder, base)
        judged = judge(opened, wanted, rows=rows)
    if not knows_data(opened, known):
        tell(
            f"intrinsic: the tasks in {data} are not those that {folder.name} was trained on, or "
            "have changed since: rows that count as not learned may have been"
        )
    if as_json:
        print_json([one.as_json() for one in judged])
        return
    print_table(
        f"{folder.name}: loss in nats per answer token, share of rows answered right",
        ("task", "part", "rows", "bare loss", "loss", "bare right", "right", "refused"),
        [
            (
                one.bare.name,
                one.part,
                str(one.bare.rows),
                f"{one.bare.loss:.4f}",
                f"{one.generated.loss:.4f}",
                f"{one.bare.row_accuracy:.3f}",
                f"{one.generated.row_accuracy:.3f}",
                f"{100 * one.refused:.0f} %",
            )
            for one in judged
        ],
    )


def run_hypernet_generate(
    folder: Path,
    query: str,
    out: Path,
    base: str | None,
    example: tuple[str, str] | None,
    *,
    gated: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write the adapter of a query, and say what the gate thought of it."""
    from intrinsic.hypernet.offline import export_for, open_hypernet
    from intrinsic.lora import check_target

    check_target(out, replace=force)
    with _quiet():
        opened = open_hypernet(folder, base)
        made = export_for(opened, query, out, gated=gated, example=example, replace=force)
    if as_json:
        print_json(made.as_json())
        return
    tell(
        f"{out} is written: rank {made.generated.rank}, {len(made.generated.factors)} layers, "
        f"the largest change is {made.generated.relative_norm:.3g} of a layer's weights"
    )
    if made.verdict is not None:
        verdict = "admits it" if made.verdict.admitted else "would refuse it"
        tell(f"the gate {verdict}: {made.verdict.reason}")
    if made.check is not None:
        tell(made.check.reason)


@contextmanager
def generated_start(folder: Path | None, query: str | None, base: str) -> Iterator[Path | None]:
    """While it is open, the folder of an adapter generated for a query; None without either.

    Raises `ConfigError` for one without the other.
    """
    if folder is None and query is None:
        yield None
        return
    if folder is None or query is None:
        raise ConfigError("--from-hypernet and --query belong together; give both or neither")
    need_packages()
    from intrinsic.hypernet.offline import export_for, open_hypernet

    with TemporaryDirectory(prefix="intrinsic-start-") as place:
        with _quiet():
            made = export_for(open_hypernet(folder, base), query, Path(place) / "start")
        yield made.folder


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and warnings of libraries."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _figure(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4f}"
