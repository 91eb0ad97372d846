"""`intrinsic train --kind embedding`: an encoder's adapter, registered like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import printed, refuses, run
from tests.cli.test_train_registering import record_of
from tests.training.embedding.given import labelled, write_encoder
from tests.training.given import write_rows

OPTIONS = ["--lr", "0.02", "--batch-pairs", 4, "--epochs", 1, "--rank", 4]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_encoder(folder / "base")
    write_rows(folder / "rows.jsonl", labelled())
    return folder


def arguments(given: Path, out: Path, *others: object) -> list[str]:
    fixed = ["--kind", "embedding", "--base", given / "base", "--data", given / "rows.jsonl"]
    given_too = [*fixed, "--name", "mine", *OPTIONS, "--adapters-dir", out, *others]
    return [str(one) for one in ["train", *given_too]]


def test_encoder_and_adapter_stand_side_by_side(given: Path, tmp_path: Path) -> None:
    result = run(*arguments(given, tmp_path))
    assert result.exit_code == 0, result.output
    head, *rows = [line.split("\t") for line in result.stdout.strip().split("\n")]
    assert head == ["figure", "base", "adapter"]
    assert [row[0] for row in rows] == ["loss, nats per pair", "nearest text is right"]
    assert float(rows[0][2]) < float(rows[0][1])
    assert f"{tmp_path / 'mine-1.0.0'} is written: step " in result.stderr


def test_json_is_the_result_and_it_is_registered(given: Path, tmp_path: Path) -> None:
    adapters, registry = tmp_path / "adapters", tmp_path / "adapters.db"
    found: dict[str, Any] = printed(*arguments(given, adapters, "--json"))
    assert set(found["adapter"]) == {"loss", "accuracy", "passages", "rows"}
    assert found["gain"] == found["base"]["loss"] - found["adapter"]["loss"]
    assert found["provenance"]["hyperparameters"]["kind"] == "embedding"
    record = record_of(registry, "mine")
    assert found["registered"] == {"id": record.id, "active": True}
    assert record.path == adapters / "mine-1.0.0"
    assert record.base_model == str((given / "base").resolve())


def test_the_registry_of_the_settings_is_not_for_encoders(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "intrinsic.toml").write_text('registry = "team.db"\n')
    words = arguments(given, tmp_path)
    at = words.index("--adapters-dir")
    del words[at : at + 2]
    printed(*words, "--json")
    assert record_of(tmp_path / "encoder_adapters.db", "mine").path.is_relative_to(
        tmp_path / "encoder_adapters"
    )
    assert not (tmp_path / "team.db").exists()


@pytest.mark.parametrize(
    ("given_too", "words"),
    [
        (["--kind", "encoder"], "--kind is 'encoder'; it must be one of generation, embedding"),
        (["--batch-tokens", "9"], "--batch-tokens is not for --kind embedding; leave it out"),
        (["--blank-share", "0.1"], "--blank-share is not for --kind embedding"),
        (["--from-hypernet", "x"], "--from-hypernet is not for --kind embedding"),
        (["--kind", "generation"], "--batch-pairs is not for --kind generation"),
        (["--batch-pairs", "1"], "--batch-pairs is 1; it must be a whole number of at least 2"),
        (["--base", "some/where"], "not in the hub's cache, and nothing is downloaded"),
        (["--targets", "qery"], "did you mean 'query'?"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: Path,
    tmp_path: Path,
    given_too: list[str],
    words: str,
) -> None:
    refuses(monkeypatch, capsys, arguments(given, tmp_path, *given_too), words)
    assert list(tmp_path.iterdir()) == []


def test_a_causal_model_is_named_and_an_encoder_need_not_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    named = ["train", "--data", str(tmp_path / "rows.jsonl"), "--name", "mine"]
    refuses(monkeypatch, capsys, named, "--base is missing; name a folder of a causal model")
    refuses(monkeypatch, capsys, [*named, "--kind", "embedding"], "rows.jsonl cannot be read")


def test_bad_rows_are_told_without_torch(given: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"text": "a"}])
    code = "import sys; sys.modules['torch'] = None; from intrinsic.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments(given, tmp_path / "o", "--data", data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "line 1: label is missing" in done.stderr
    assert list(tmp_path.iterdir()) == [data]


def test_it_stays_apart_from_the_adapters_that_requests_are_routed_to(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = arguments(given, tmp_path)
    at = found.index("--adapters-dir")
    printed(*found[:at], *found[at + 2 :])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "encoder_adapters", "encoder_adapters.db",
    ]  # fmt: skip
