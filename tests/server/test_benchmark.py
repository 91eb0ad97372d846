"""The benchmark of the service runs, prints what it promises, and finds every answer right."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import main

SMALL = {"clients": 4, "tokens": 4, "each": 1, "rounds": 1, "pairs": 2, "requests": 20}


def test_the_benchmark_prints_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    small = [f"--{name}={value}" for name, value in SMALL.items()]
    assert main(["serve", "--json", *small]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["what_went_wrong"] == []
    assert (result["errors"], result["wrong_answers"], result["leaked_tasks"]) == (0, 0, 0)
    assert result["concurrent_vs_serial"] > 0
    assert {"ttft_overhead_ms", "leaked_bytes"} <= result.keys()
    churn = result["churn"]
    assert (churn["completed"], churn["left"], churn["refused"]) == (17, 2, 1)
    assert churn["switches"] > 0
    assert churn["leases"] == 0
