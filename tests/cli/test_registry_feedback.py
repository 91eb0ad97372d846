"""`intrinsic adapters rate`, `prefer` and `compare`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import printed, refuses, run
from tests.registry.cataloguing import adapter


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTRINSIC_REGISTRY", raising=False)
    for key in ("sql@1", "sql@2", "base@1"):
        name, _, version = key.partition("@")
        run(
            *("adapters", "register", adapter(tmp_path / "made")),
            *("--name", name, "--version", version),
        )
    return tmp_path


def test_ratings_are_kept_of_versions_and_of_the_base_model() -> None:
    found = printed("adapters", "rate", "sql@2", 4, "--criterion", "style=5", "--tag", "x")
    assert {key: found[key] for key in ("adapter", "rating", "criteria")} == {
        "adapter": "sql@2", "rating": 4, "criteria": {"style": 5},
    }  # fmt: skip
    assert run("adapters", "rate", "base", 2).stdout == "the base model got a 2\n"
    assert run("adapters", "rate", "base@1", 5).stdout == "base@1 got a 5\n"
    feedback = printed("adapters", "show", "sql@2")["feedback"]
    assert (feedback["ratings"]["mean"], feedback["criteria"]["style"]["mean"]) == (4, 5)
    assert printed("adapters", "show", "sql@1")["feedback"]["ratings"]["count"] == 0
    compared = printed("adapters", "compare", "sql")["versions"]
    assert [(one["version"], one["ratings"]["mean"]) for one in compared] == [
        ("1", None), ("2", 4), (None, 2),
    ]  # fmt: skip


def test_votes_are_compared_with_plain_sentences() -> None:
    for _ in range(7):
        found = printed("adapters", "prefer", "sql@2", "sql@1", "--outcome", "a")
        assert (found["a"], found["b"], found["outcome"]) == ("sql@2", "sql@1", "a")
    assert run("adapters", "prefer", "base", "sql", "--outcome", "b").stdout == (
        "sql@1 is preferred to the base model\n"
    )
    assert run("adapters", "prefer", "base", "sql", "--outcome", "tie").stdout == (
        "the base model and sql@1 are even\n"
    )
    found = printed("adapters", "compare", "sql", "2", "1")
    assert found["sentences"][0] == "2 beats 1: 100 % of 7 decisive votes, p = 0.016"
    assert found["comparisons"] == 1
    result = run("adapters", "compare", "sql", "2", "1")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[1].split("\t")[:2] == ["2", "0"]
    assert lines[1].split("\t")[4:8] == ["7", "0", "0", "100% of 7"]
    assert found["sentences"][0] in lines


def test_versions_of_other_names_can_be_compared() -> None:
    run("adapters", "rate", "base@1", 3)
    found = printed("adapters", "compare", "sql", "1", "base@1")["versions"]
    assert [(one["version"], one["ratings"]["count"]) for one in found] == [("1", 0), ("base@1", 1)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rate", "sql", "6"], "it must be a whole number from 1 to 5"),
        (["rate", "sql", "3", "--criterion", "style"], "write a criterion so: style=4"),
        (["rate", "sql", "3", "--criterion", "style=9"], "from 1 to 5"),
        (["rate", "nothing", "3"], "unknown adapter 'nothing'"),
        (["prefer", "sql@1", "sql@2", "--outcome", "c"], "it must be a, b or tie"),
        (["prefer", "sql", "sql@1", "--outcome", "a"], "name two versions"),
        (["prefer", "base", "base", "--outcome", "a"], "are both the base model"),
        (["compare", "nothing"], "unknown adapter 'nothing'"),
        (["compare", "sql@1"], "write compare NAME"),
        (["compare", "sql", "9"], "it has 1, 2"),
        (["compare", "sql", "1", "1"], "each once"),
    ],
)
def test_bad_input_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    refuses(monkeypatch, capsys, ["adapters", *arguments], words)
    assert printed("adapters", "compare", "sql")["sentences"][0].startswith("1 and 2: there are no")
