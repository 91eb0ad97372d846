"""The three commands from a data folder to figures, on a model and a library that fit a test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from intrinsic.training import corpus, judge, pretrain, stdlib
from intrinsic.training.__main__ import main
from intrinsic.training.optim import orthogonalise, warm_then_linear
from intrinsic.training.pretrain import next_batch, token_stream

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def tiny_config(vocabulary_size: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary_size, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        eos_token_id=0, pad_token_id=1, bos_token_id=None,
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with 24 rows per domain and split, and a library of one module."""
    library = tmp_path / "library"
    library.mkdir()
    code = 'def f():\n    """Return the number one, as ever."""\n    return 1\n'
    (library / "one.py").write_text(code)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(library)})
    monkeypatch.setattr(stdlib, "topics", lambda: ["The language reference."] * 40)
    for domain in corpus.DOMAINS:
        folder = tmp_path / "data" / domain
        folder.mkdir(parents=True)
        for split in ("train", "valid"):
            name = f"mbpp_{split}" if domain == "coding" else split
            rows = [
                {
                    "id": f"{domain}-{split}-{n}",
                    "prompt": f"{domain} {n}?",
                    "response": f"it is {n}",
                }
                for n in range(24)
            ]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text)
    return tmp_path / "data"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    main()


def test_from_data_to_figures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretrain, "base_config", tiny_config)
    monkeypatch.setattr(judge, "QUESTIONS_PER_DOMAIN", 8)
    base, adapters = tmp_path / "base", tmp_path / "adapters"
    run(monkeypatch, "base", "--data", data, "--out", base, "--steps", "2")
    assert json.loads((base / "training.json").read_text())["tokens"] == 2048 + 4096
    assert AutoTokenizer.from_pretrained(base).eos_token_id == 0
    assert str(AutoModelForCausalLM.from_pretrained(base).dtype) == "torch.float16"

    common: list[str | Path] = ["--data", data, "--base", base]
    names = ["math", "coding"]
    short = ["--steps", "3", "--jobs", "1", "--domains", *names]
    run(monkeypatch, "adapters", *common, "--out", adapters, *short)
    capsys.readouterr()
    run(monkeypatch, "evaluate", *common, "--adapters", adapters, "--json")
    printed = capsys.readouterr().out
    figures = json.loads(printed)["domains"]
    assert set(figures) == set(names)
    assert all(f["questions"] == 8 and f["loss_base"] > 0 for f in figures.values())
    (tmp_path / "figures.json").write_text(printed)
    run(monkeypatch, "cards", "--adapters", adapters, "--figures", tmp_path / "figures.json")
    assert "four-choice accuracy" in (adapters / "math" / "README.md").read_text()
    assert str(tmp_path) not in (adapters / "math" / "README.md").read_text()


def test_adapters_made_side_by_side_are_those_made_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "base_config", tiny_config)
    base = tmp_path / "base"
    run(monkeypatch, "base", "--data", data, "--out", base, "--steps", "1")
    common: list[str | Path] = ["--data", data, "--base", base, "--steps", "3", "--domains", "math"]
    for jobs in ("1", "2"):
        run(monkeypatch, "adapters", *common, "--out", tmp_path / jobs, "--jobs", jobs)
    alone, beside = (
        (tmp_path / jobs / "math" / "adapter_model.safetensors").read_bytes() for jobs in ("1", "2")
    )
    assert alone == beside


def test_evaluating_without_adapters_says_what_to_do(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "base_config", tiny_config)
    run(monkeypatch, "base", "--data", data, "--out", tmp_path / "base", "--steps", "0")
    with pytest.raises(FileNotFoundError, match="train them with 'adapters'"):
        judge.judge_all(data, tmp_path / "base", tmp_path / "none")


def test_the_stream_is_seeded_and_never_ends() -> None:
    documents = [[n, n + 1, 0] for n in range(10, 40, 2)]
    first = next_batch(token_stream(documents, 3), 4, 15)
    assert first.shape == (4, 16)
    assert first.equal(next_batch(token_stream(documents, 3), 4, 15))
    assert not first.equal(next_batch(token_stream(documents, 4), 4, 15))


def test_the_learning_rate_rises_holds_and_falls_to_zero() -> None:
    factors = [warm_then_linear(n / 100) for n in range(101)]
    assert factors[0] < 0.1
    assert factors[10] == 1.0
    assert factors[100] == 0.0
    assert max(factors) == 1.0


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_orthogonalising_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.5
    assert values.max() < 1.4
