"""`intrinsic route`: a text, an explanation, a file of labelled queries; no language model."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from intrinsic.cli import main
from intrinsic.cli.app import app
from intrinsic.cli.route_app import route_app
from tests.cli.running import refuses
from tests.routing.fakes import CARDS
from tests.tiny import write_files

QUERIES = [
    *({"text": f"please: {one}", "adapter": c.name} for c in CARDS for one in c.examples[:2]),
    {"text": "draft a clause for the contract", "adapter": "medical"},
    {"text": "turn off the lamp", "adapter": None},
]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    for card in CARDS:
        fields = {
            "domain": card.domain,
            "description": card.description,
            "keywords": card.keywords,
            "examples": card.examples,
        }
        write_files(folder / card.name, {}, fields, target_modules=["q_proj"])
    return folder


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    file = tmp_path / "queries.jsonl"
    file.write_text("\n".join(map(json.dumps, QUERIES)))
    return file


def route(adapters: Path, *arguments: object) -> Result:
    """The options go in front of the text, so that it may stand after `--`."""
    first = [arguments[0]] if arguments[0] == "eval" else []
    given = [*first, "--adapters-dir", adapters, "--router", "keyword", *arguments[len(first) :]]
    return CliRunner().invoke(app, ["route", *map(str, given)])


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_text_is_routed(adapters: Path) -> None:
    result = route(adapters, "how is asthma treated")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("medical x 1.00 (")
    assert "asthma" in result.stdout
    assert len(result.stdout.splitlines()) == 1
    assert route(adapters, "zzz").stdout == "no adapter fits: base model\n"
    (selection,) = told(route(adapters, "--json", "how is asthma treated"))["selections"]
    assert selection["adapter"] == "medical"
    assert selection["confidence"] > 0.5


@pytest.mark.parametrize("arguments", [["--", "eval"], ["--json", "eval"], ["TEXT"], [" eval"]])
def test_a_text_may_be_anything(adapters: Path, arguments: list[str]) -> None:
    assert told(route(adapters, "--json", *arguments))["text"] == arguments[-1]


@pytest.mark.parametrize("arguments", [["the law", "--json"], ["--json", "the law"]])
def test_options_may_stand_before_and_after_the_text(adapters: Path, arguments: list[str]) -> None:
    given = ["--adapters-dir", str(adapters), "--router", "keyword"]
    for order in ([*given, *arguments], [*arguments, *given]):
        assert told(CliRunner().invoke(route_app, order))["text"] == "the law"


def test_help_is_there_for_the_group_and_for_the_text(adapters: Path) -> None:
    runner = CliRunner()
    assert "eval FILE" in runner.invoke(app, ["route", "--help"]).stdout
    assert "--explain" in runner.invoke(app, ["route", "TEXT", "--help"]).stdout
    assert "--unknown-as-none" in runner.invoke(app, ["route", "eval", "--help"]).stdout
    assert runner.invoke(app, ["route"]).exit_code == 2


def test_an_explanation_says_what_spoke_for_each_and_why_the_others_lost(adapters: Path) -> None:
    lines = route(adapters, "--explain", "how is asthma treated").stdout.splitlines()
    columns = lines[1].split("\t")
    rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in lines[2:]]
    assert columns[:2] == ["adapter", "confidence"]
    assert len(rows) == len(CARDS)
    assert rows[0]["adapter"] == "medical"
    assert rows[0]["outcome"] == "chosen, weight 1.00"
    assert rows[1]["outcome"].startswith("below the threshold of 50%; behind medical by ")
    assert rows[1]["outcome"].endswith(" in words")
    candidates = told(route(adapters, "--explain", "--json", "how is asthma treated"))
    assert (
        candidates["candidates"][0]["parts"]["bm25"] > candidates["candidates"][1]["parts"]["bm25"]
    )


def test_plugins_have_the_last_word(adapters: Path, tmp_path: Path) -> None:
    (tmp_path / "always_legal.py").write_text(
        "from intrinsic import Selection, hookimpl\n"
        "@hookimpl\n"
        "def select_adapters(query):\n"
        "    return [Selection('legal', 0.9, 1.0, 'always')]\n"
    )
    text = "how is asthma treated"
    result = route(adapters, "--plugins", tmp_path, "--explain", "--json", text)
    found = told(result)
    assert [one["adapter"] for one in found["selections"]] == ["legal"]
    outcomes = {one["adapter"]: one["outcome"] for one in found["candidates"]}
    assert outcomes["legal"] == "chosen"
    assert "a plugin decided" in outcomes["medical"]


@pytest.mark.parametrize(
    ("arguments", "hook"),
    [
        (["route", "how is asthma treated", "--router", "keyword"], "select_adapters"),
        (["adapters", "card", "medical", "--suggest", "1", "--backend", "x"], "suggest_examples"),
    ],
)
def test_a_plugin_that_raises_is_one_line(
    adapters: Path, tmp_path: Path, arguments: list[str], hook: str
) -> None:
    (tmp_path / "broken.py").write_text(
        f"from intrinsic import hookimpl\n@hookimpl\ndef {hook}():\n    raise OSError('gone')\n"
    )
    given = [*arguments, "--adapters-dir", str(adapters), "--plugins", str(tmp_path)]
    script = "from intrinsic.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *given], capture_output=True, text=True, check=False
    )
    line, *more = done.stderr.splitlines()
    assert line == f"intrinsic: plugin 'broken', hook {hook}: raised OSError: gone"
    assert more == ([] if hook == "select_adapters" else [more[0]])
    assert "Traceback" not in done.stderr


def test_help_offers_no_router_that_cannot_be_had() -> None:
    for command in ("TEXT", "eval", "fit"):
        shown = CliRunner().invoke(app, ["route", command, "--help"]).stdout
        assert "hybrid" in shown
        assert "cascade" not in shown


def test_no_language_model_is_loaded(adapters: Path) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from intrinsic.cli.app import app;"
        f"r = CliRunner().invoke(app, ['route', 'asthma', '--adapters-dir', {str(adapters)!r},"
        " '--router', 'keyword']); assert r.exit_code == 0, r.output;"
        "assert 'transformers' not in sys.modules, 'transformers'; print(r.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("medical")


def test_a_router_is_measured_and_the_report_written(
    adapters: Path, queries: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    found = told(route(adapters, "eval", queries, "--out", out, "--json"))
    assert (found["queries"], found["in_scope"], found["adapters"]) == (14, 13, 6)
    assert 0.8 < found["top1"] < 1.0
    assert found["auroc"] is not None
    assert json.loads((out / "report.json").read_text()) == found
    for name in ("reliability", "confusion"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    plain = route(adapters, "eval", queries, "--out", out)
    assert f"e2e\t{found['e2e']:.4f}" in plain.stdout
    (error,) = [line for line in plain.stdout.splitlines() if "draft a clause" in line]
    assert error.startswith("medical\tlegal\t1\t")
    assert "reliability.png is written" in plain.stderr
    assert "examples of the cards" not in plain.stderr


def test_the_report_goes_beside_by_default(
    adapters: Path, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert route(adapters, "eval", "queries.jsonl").exit_code == 0
    assert (tmp_path / "queries-report" / "report.json").exists()


def test_pictures_are_drawn_of_the_smallest_report(adapters: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text('{"text": "how is asthma treated", "adapter": "medical"}')
    found = told(route(adapters, "eval", file, "--out", tmp_path, "--json"))
    assert (found["auroc"], found["a95"], found["confusions"]) == (None, None, [])
    assert (tmp_path / "confusion.png").exists()
    plain = route(adapters, "eval", file, "--out", tmp_path)
    assert "auroc\t-" in plain.stdout
    assert "1 queries are examples of the cards; the figures are too good" in plain.stderr


def test_without_matplotlib_the_report_is_there_and_a_sentence_says_what_is_missing(
    adapters: Path, queries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    result = route(adapters, "eval", queries, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "pip install 'intrinsic-lora[plots]'" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


def test_queries_of_adapters_that_are_not_here_can_count_as_none(
    adapters: Path, tmp_path: Path
) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"text": "my taxes", "adapter": "tax"}\n{"text": "bread", "label": "cooking"}')
    refused = route(adapters, "eval", file, "--out", tmp_path, "--unknown-as-none", "--json")
    assert told(refused)["out_of_scope"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["route", "x", "--router", "magic"], "unknown router 'magic'"),
        (["route", "x", "--router", "llm"], "try it with 'intrinsic ask --router llm'"),
        (["route", "eval", "QUERIES", "--router", "cascade"], "'intrinsic ask --router cascade'"),
        (["ask", "x", "--router", "llm", "--calibration", "y"], "is not used by router 'llm'"),
        (["route", "x", "--adapters-dir", "/nowhere"], "/nowhere does not exist"),
        (["route", "x", "--top-k", "0", "--router", "keyword"], "top_k is 0"),
        (["route", "eval", "/nowhere.jsonl"], "/nowhere.jsonl cannot be read"),
        (["route", "eval", "QUERIES", "--router", "keyword"], "adapters that are not here"),
        (["route", "eval", "QUERIES", "--out", "QUERIES"], "cannot be made: File exists"),
        (["route", "eval", "QUERIES", "--threshold", "2", "--router", "keyword"], "threshold is 2"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    queries: Path,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(queries) if argument == "QUERIES" else argument for argument in arguments]
    refuses(monkeypatch, capsys, given, words)


def fit(
    monkeypatch: pytest.MonkeyPatch, adapters: Path, file: Path, out: Path, command: str = "fit"
) -> int:
    given = ["--out", str(out), "--adapters-dir", str(adapters), "--router", "keyword"]
    monkeypatch.setattr(sys, "argv", ["intrinsic", "route", command, str(file), *given])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def rows_of(tmp_path: Path, fitting: int, others: int) -> Path:
    texts = [(f"please {one}", c.name) for c in CARDS for one in c.examples]
    rows: list[dict[str, str | None]]
    rows = [{"text": text, "adapter": name} for text, name in texts[:fitting]]
    rows += [{"text": f"the red lamp {n}", "adapter": None} for n in range(others)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_few_queries_are_fitted_and_not_measured(
    adapters: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "c.json"
    assert fit(monkeypatch, adapters, rows_of(tmp_path, 15, 10), out) == 0
    told = capsys.readouterr()
    assert json.loads(out.read_text())["queries"] == 25
    assert "before and after are not measured: one half of 25 queries is too few" in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("fitting", "others", "words"),
    [
        (9, 10, "has 19 labelled queries; a calibration needs 20"),
        (20, 0, "none of the 20 queries of"),
    ],
)
def test_queries_that_cannot_be_fitted_to_are_refused(
    adapters: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fitting: int,
    others: int,
    words: str,
) -> None:
    file = rows_of(tmp_path, fitting, others)
    assert len(file.read_text().splitlines()) == fitting + others
    assert fit(monkeypatch, adapters, file, tmp_path / "c.json") == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize(
    ("command", "out", "words"),
    [
        ("fit", "rows.jsonl", "rows.jsonl is the file that is read"),
        ("fit", ".", "is a folder; name a file"),
        ("fit", "none/c.json", "none is no folder"),
        ("fit", "/proc/c.json", "/proc/c.json cannot be written"),
        ("fit", "x" * 300, "cannot be written: File name too long"),
        ("eval", "/proc", "cannot be written"),
        ("eval", "/proc/deep/er", "nothing can be written into /proc/deep/er"),
        ("eval", "rows.jsonl/deep", "rows.jsonl is no folder"),
    ],
)
def test_where_nothing_can_be_written_is_said_before_the_work(
    adapters: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    out: str,
    words: str,
) -> None:
    if out.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("no folder here that nobody may write to")
    file = rows_of(tmp_path, 15, 10)
    text = file.read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("intrinsic.cli.route_fit.open_routing", None)
    monkeypatch.setattr("intrinsic.cli.route_eval.open_routing", None)
    assert fit(monkeypatch, adapters, Path("rows.jsonl"), Path(out), command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert file.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_refused_labels_leave_no_folder(
    adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"text": "my taxes", "adapter": "tax"}')
    assert fit(monkeypatch, adapters, file, tmp_path / "deep" / "out", "eval") == 1
    assert not (tmp_path / "deep").exists()


def test_confidences_are_fitted_measured_on_the_other_half_and_used(
    adapters: Path, tmp_path: Path
) -> None:
    rows = [
        *(
            {"text": f"{word} {text}", "adapter": card.name}
            for card in CARDS
            for text in card.examples
            for word in ("please", "now")
        ),
        *(
            {"text": f"the {color} lamp number {n}", "adapter": None}
            for color in ("red", "blue", "green")
            for n in range(8)
        ),
    ]
    file, out = tmp_path / "q.jsonl", tmp_path / "calibration.json"
    file.write_text("\n".join(map(json.dumps, rows)))
    given = ["--adapters-dir", str(adapters), "--router", "keyword"]
    fitted = told(
        CliRunner().invoke(app, ["route", "fit", str(file), "--out", str(out), "--json", *given])
    )
    assert fitted["before"]["queries"] == len(rows) // 2
    assert fitted["after"]["ece"] < fitted["before"]["ece"]
    assert fitted["after"]["top1"] == fitted["before"]["top1"]
    plain = CliRunner().invoke(app, ["route", "fit", str(file), "--out", str(out), *given])
    assert f"ece\t{fitted['before']['ece']:.4f}\t{fitted['after']['ece']:.4f}" in plain.stdout
    text = "please how is asthma treated"
    confidences = [
        told(route(adapters, *more, "--json", text))["selections"][0]["confidence"]
        for more in ([], ["--calibration", out])
    ]
    assert confidences[0] != confidences[1]
    measured = [
        told(route(adapters, "eval", file, "--out", tmp_path, "--json", *more))["ece"]
        for more in ([], ["--calibration", out])
    ]
    assert measured[1] < measured[0]
