"""`intrinsic adapters merge`: from names and weights to a checkpoint on disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from intrinsic.cli import main
from intrinsic.cli.app import app
from intrinsic.lora import delta, read_checkpoint
from intrinsic.registry import AdapterRegistry
from tests.cli.running import printed, run
from tests.tiny import llama, write_adapter

CARD = {"domain": "law", "description": "Drafts clauses.", "keywords": ["clause"]}
LAYER = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    folder = tmp_path / "adapters"
    write_adapter(folder / "a", llama(), seed=1, card=CARD)
    write_adapter(folder / "b", llama(), seed=2, r=6, targets=("q_proj", "up_proj"))
    write_adapter(folder / "b2", llama(), seed=3, card={"name": "b", "version": "2"})
    write_adapter(folder / "other", llama(), base_model_name_or_path="qwen")
    write_adapter(folder / "another", llama(), base_model_name_or_path="llama")
    return folder


def merge(adapters: Path, *arguments: object) -> Result:
    return run("adapters", "merge", *arguments, "--adapters-dir", adapters)


def merged(adapters: Path, *arguments: object) -> dict[str, Any]:
    return printed("adapters", "merge", *arguments, "--adapters-dir", adapters)


def test_a_mixture_is_saved_and_what_was_lost_is_said(adapters: Path) -> None:
    out = adapters / "both"
    told = merged(adapters, "a=0.7", "b@1=-0.3", "--out", out)
    assert told["mixture"] == {"a@1": 0.7, "b@1": -0.3}
    assert (told["method"], told["layers"], told["ranks"]) == ("exact", 6, [4, 6, 10])
    assert told["worst_error"] < 1e-7
    saved = read_checkpoint(out)
    assert told["digest"] == saved.digest
    parts = [(read_checkpoint(adapters / "a"), 0.7), (read_checkpoint(adapters / "b"), -0.3)]
    wanted = delta(parts[0][0].factors[LAYER], 0.7) + delta(parts[1][0].factors[LAYER], -0.3)
    torch.testing.assert_close(delta(saved.factors[LAYER]), wanted, atol=1e-6, rtol=1e-6)
    card = AdapterRegistry.from_folder(adapters).get_adapter("both").card
    assert card.domain == "law"
    assert "0.7 x a@1 + -0.3 x b@1, merged by exact" in card.description


def test_the_order_of_the_arguments_is_no_matter(adapters: Path, tmp_path: Path) -> None:
    one = merged(adapters, "a=1", "b=2", "--method", "dare", "--seed", 3, "--out", tmp_path / "1")
    two = merged(adapters, "b=2", "a=1", "--method", "dare", "--seed", 3, "--out", tmp_path / "2")
    assert one["mixture"] == {"a@1": 1.0, "b@2": 2.0}
    assert one["digest"] == two["digest"]


def test_a_rank_is_kept_to_and_the_error_that_is_left_is_told(
    adapters: Path, tmp_path: Path
) -> None:
    told = merged(
        *(adapters, "a=0.7", "b=0.3", "--method", "ties", "--density", 0.5, "--rank", 2),
        *("--dtype", "float16", "--out", tmp_path / "m"),
    )
    assert told["ranks"] == [2]
    assert told["dtype"] == "float16"
    assert told["worst_error"] >= told["mean_error"] > 0.1
    assert told["worst_layer"] in read_checkpoint(tmp_path / "m").factors


def test_it_is_told_as_a_table_too(adapters: Path, tmp_path: Path) -> None:
    result = merge(adapters, "a=0.5", "b=0", "--method", "svd", "--out", tmp_path / "m")
    assert result.exit_code == 0
    lines = dict(line.split("\t") for line in result.stdout.splitlines())
    assert lines["mixture"] == "0.5 x a@1"
    assert lines["ranks"] == "4"


def test_an_adapter_is_replaced_only_where_that_is_asked(adapters: Path, tmp_path: Path) -> None:
    first = merged(adapters, "a=0.5", "--out", tmp_path / "m")
    assert merge(adapters, "a=0.6", "--out", tmp_path / "m").exit_code == 1
    assert read_checkpoint(tmp_path / "m").digest == first["digest"]
    second = merged(adapters, "a=0.6", "--out", tmp_path / "m", "--force")
    assert read_checkpoint(tmp_path / "m").digest == second["digest"] != first["digest"]


def test_a_plugins_method_is_found_by_its_name(adapters: Path, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "halving.py").write_text(
        "from intrinsic import hookimpl\n"
        "def halve(deltas, weights, *, density=0.5):\n"
        "    return density * deltas[0]\n"
        "def fail(deltas, weights):\n"
        "    return 1 / 0\n"
        "@hookimpl\n"
        "def register_merge_methods():\n"
        "    return {'halve': halve, 'fail': fail}\n"
    )
    (plugins / "broken.py").write_text("def (")
    with_plugins = ("--plugins", plugins, "--out", tmp_path / "m")
    result = merge(adapters, "a=9", "--method", "halve", "--density", 0.25, *with_plugins)
    assert result.exit_code == 0
    assert "broken.py" in result.stderr
    saved, a = read_checkpoint(tmp_path / "m"), read_checkpoint(adapters / "a")
    wanted = delta(a.factors[LAYER], 0.25)
    torch.testing.assert_close(delta(saved.factors[LAYER]), wanted, atol=1e-6, rtol=1e-6)
    failed = merge(adapters, "a=9", "--method", "fail", "--plugins", plugins, "--out", "x")
    assert "merge method 'fail' failed on model.layers" in str(failed.exception)


BAD: list[tuple[list[str], str]] = [
    (["a"], "'a' is no NAME=WEIGHT; write an adapter so: medical=0.7"),
    (["a=much"], "'a=much' is no NAME=WEIGHT"),
    (["=1"], "'=1' is no NAME=WEIGHT"),
    (["a=inf"], "weight of adapter 'a@1' is inf; it must be a finite number"),
    (["a=0", "b=0"], "a=0 b=0 is the base model; give an adapter a weight not 0"),
    (["a=1", "a@1=1"], "adapter 'a@1' is named twice in one mixture; add its weights up"),
    (["aa=1"], "unknown adapter 'aa'; did you mean 'a'?; known: a, another, b, other"),
    (["a=1", "--method", "tise"], "unknown merge method 'tise'; known: dare, dare_ties, exact"),
    (["a=1", "--density", "0.5"], "merge method 'exact' takes no density"),
    (["a=1", "--method", "ties", "--density", "2"], "density is 2.0; it is the share of values"),
    (["a=1", "--method", "svd", "--rank", "0"], "rank is 0; it must be 1 or more"),
    (["a=1", "--dtype", "int8"], "dtype is 'int8'; it must be one of float32"),
    (["a=1e30", "--dtype", "float16"], "not finite in float16; lower the weights or use"),
    (["other=1", "another=1"], "merge adapters of one base model"),
    (["a=1", "--adapters-dir", "/nowhere"], "/nowhere does not exist"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[" ".join(given) for given, _ in BAD])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    adapters: Path,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    place = ["--adapters-dir", str(adapters), "--out", str(tmp_path / "new" / "m")]
    monkeypatch.setattr(sys, "argv", ["intrinsic", "adapters", "merge", *place, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert told.startswith("intrinsic: ")
    assert words in told
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["/proc/nope", "{}/a/card.json/m", "{}/a/card.json"])
def test_a_place_that_cannot_be_written_is_one_sentence_with_the_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], adapters: Path, place: str
) -> None:
    out = place.format(adapters)
    arguments = ["a=1", "--out", out, "--adapters-dir", str(adapters), "--force"]
    monkeypatch.setattr(sys, "argv", ["intrinsic", "adapters", "merge", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    *_, told = capsys.readouterr().err.strip().splitlines()
    assert told.startswith(f"intrinsic: {out} ")
    assert "Errno" not in told
    assert "name a" in told


def test_where_to_is_asked_for(adapters: Path) -> None:
    assert merge(adapters, "a=1").exit_code == 2
    assert "merge" in CliRunner().invoke(app, ["adapters", "--help"]).stdout
