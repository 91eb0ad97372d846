"""The benchmark of the bus runs, prints what it promises, and is found by its name."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import main, names, table


def test_the_bus_benchmark_prints_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--rounds", "1", "--events", "50", "--rival-events", "5", "--scenario-events", "1000"]
    assert main(["bus", "--json", *small]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"events_per_s", "vs_bubus", "p50_us", "p99_us", "scenarios"} <= result.keys()
    for name in ("handlers_100", "sessions_1000", "full_queue", "one_hanging_of_10"):
        assert result["scenarios"][name].keys() == {"events_per_s", "p50_us", "p99_us"}
        assert all(value > 0 for value in result["scenarios"][name].values())


@pytest.mark.parametrize("argv", [[], ["--json"], ["nothing"], ["__main__"]])
def test_an_unknown_name_is_answered_with_the_known_ones(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert "benchmarks: bus, " in capsys.readouterr().err
    assert "bus" in names()


def test_people_get_a_table() -> None:
    result = {"rate": 12345.6, "ratio": 0.123456, "ok": True, "group": {"n": 3, "who": "me"}}
    assert list(table(result)) == [
        "rate   12,346",
        "ratio  0.1235",
        "ok     True",
        "group",
        "  n    3",
        "  who  me",
    ]
