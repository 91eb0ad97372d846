"""What is trained is what is written, serves alike everywhere, and survives a kill."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from sentence_transformers import SentenceTransformer

from intrinsic.embedding import EmbeddingOptions, EmbeddingProvider
from intrinsic.errors import (
    AdapterExistsError,
    BackendError,
    CapacityError,
    ConfigError,
)
from intrinsic.lora import read_checkpoint
from intrinsic.registry import AdapterRegistry
from intrinsic.registry.provenance import Provenance
from intrinsic.routing.model_loading import BUNDLED_MODEL
from intrinsic.training.embedding import preparing
from intrinsic.training.embedding.encoder import find_encoder, load_encoder, used_targets
from intrinsic.training.embedding.plan import EmbeddingPlan
from intrinsic.training.embedding.scores import Contrast, EmbeddingScores
from intrinsic.training.embedding.train import trained_embedding
from intrinsic.training.lora.result import TrainedAdapter
from tests.training.embedding.given import PLAN, job_in, labelled, pairs, write_encoder
from tests.training.given import KillAt, Killed, Told, write_rows

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

FILES = ("adapter_config.json", "adapter_model.safetensors", "card.toml")
TEXTS = [row["text"] for row in labelled(9, seed=5)]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_encoder(folder / "base")
    write_rows(folder / "rows.jsonl", labelled())
    return folder


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def made(given: Path, told: Told) -> TrainedAdapter[EmbeddingScores]:
    """An adapter that nobody disturbed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        job = job_in(given, out=given / "unbroken", domain="talk", version="1.2.0")
        return trained_embedding(job, PLAN, told)


@pytest.fixture
def folder(given: Path, tmp_path: Path) -> Path:
    (tmp_path / "base").symlink_to(given / "base")
    (tmp_path / "rows.jsonl").symlink_to(given / "rows.jsonl")
    return tmp_path


def bytes_in(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES[:2]]


def test_an_adapter_learns_and_says_what_it_gained(
    made: TrainedAdapter[EmbeddingScores], told: Told
) -> None:
    assert made.gain > 0.05
    assert made.adapter.accuracy >= made.base.accuracy
    assert made.adapter.passages == made.base.passages == 20
    assert made.train_rows + made.validation_rows == 48
    assert told.held_out[made.best_step] == min(told.held_out.values())
    assert made.adapter.loss == pytest.approx(told.held_out[made.best_step], abs=1e-6)
    assert told.steps == list(range(1, made.steps + 1))


def test_the_folder_has_what_peft_and_the_registry_read(
    made: TrainedAdapter[EmbeddingScores], given: Path
) -> None:
    found = Provenance.read(made.folder)
    assert found == made.provenance
    assert found is not None
    assert found.hyperparameters["kind"] == "embedding"
    assert found.hyperparameters["batch_pairs"] == PLAN.batch_pairs
    assert {"sentence-transformers", "peft"} <= set(found.libraries)
    config = json.loads((made.folder / FILES[0]).read_text())
    assert config["task_type"] == "FEATURE_EXTRACTION"
    assert config["base_model_name_or_path"] == str((given / "base").resolve())
    registry = AdapterRegistry.from_folder(given)
    assert registry.get_adapter("mine").key == "mine@1.2.0"
    assert set(made.card.examples) <= {row["text"] for row in labelled()}


async def test_peft_and_the_provider_serve_the_vectors_that_were_measured(
    made: TrainedAdapter[EmbeddingScores], given: Path
) -> None:
    plain = SentenceTransformer(str(given / "base"), device="cpu")
    untuned = plain.encode(TEXTS, normalize_embeddings=True)
    inner = PeftModel.from_pretrained(plain[0].auto_model, str(made.folder))
    inner.eval()
    wanted = plain.encode(TEXTS, normalize_embeddings=True)
    options = EmbeddingOptions(model=given / "base", lora_adapter_path=made.folder)
    async with EmbeddingProvider(options) as provider:
        found = await provider.embed_batch(TEXTS)
        base = await provider.embed_batch(TEXTS, adapters="base")
    assert np.sum(found * wanted, axis=1).min() >= 0.99999
    assert np.sum(base * untuned, axis=1).min() >= 0.99999
    assert np.sum(found * untuned, axis=1).min() < 0.999


def test_no_layer_is_adapted_that_no_vector_depends_on(
    made: TrainedAdapter[EmbeddingScores], given: Path
) -> None:
    layers = set(read_checkpoint(made.folder).factors)
    assert len(layers) == 2 * 6
    assert not any("pooler" in name for name in layers)
    assert made.parameters == sum(
        f.A.numel() + f.B.numel() for f in read_checkpoint(made.folder).factors.values()
    )
    model, inner = load_encoder(find_encoder(str(given / "base")))
    assert used_targets(model, inner, ["query", "dense"]) == ("dense", "query")
    with pytest.raises(ConfigError, match=r"no vector depends on 'pooler\.dense'; it depends on"):
        used_targets(model, inner, ["pooler.dense"])
    with pytest.raises(ConfigError, match=r"has no matrix 'qery' \(did you mean 'query'\?\)"):
        used_targets(model, inner, ["qery"])


@pytest.mark.parametrize("step", [5, 9])
def test_a_broken_training_ends_with_the_same_bytes(
    folder: Path, made: TrainedAdapter[EmbeddingScores], step: int
) -> None:
    plan = replace(PLAN, every=4)
    with pytest.raises(Killed):
        trained_embedding(job_in(folder), plan, KillAt(step))
    kept = folder / ".mine.training" / "checkpoint-4"
    assert "model.safetensors" not in {path.name for path in kept.iterdir()}
    told = Told()
    again = trained_embedding(job_in(folder), plan, told)
    assert again.resumed_from == 4 * (step // 4)
    assert told.steps[0] == again.resumed_from + 1
    unbroken = trained_embedding(job_in(folder, out=folder / "unbroken"), plan)
    assert bytes_in(again.folder) == bytes_in(unbroken.folder)
    assert bytes_in(again.folder)[1] != b""


def test_checkpoints_of_other_settings_are_not_gone_on_from(folder: Path) -> None:
    plan = replace(PLAN, every=2)
    with pytest.raises(Killed):
        trained_embedding(job_in(folder), plan, KillAt(3))
    with pytest.raises(ConfigError, match=r"temperature \(was 0\.05\)"):
        trained_embedding(job_in(folder), replace(plan, temperature=0.1))


@pytest.mark.parametrize("negatives", [False, True])
def test_pairs_are_learned_too(folder: Path, negatives: bool) -> None:
    (folder / "rows.jsonl").unlink()
    write_rows(folder / "rows.jsonl", pairs(24, negatives=negatives))
    plan = replace(
        PLAN, epochs=1, validation_share=0.3, query_prefix="search: ", passage_prefix="text: "
    )
    seen: list[list[int]] = []
    columns = Contrast.columns

    def keep(contrast: Contrast, batch: Any) -> Any:
        found = columns(contrast, batch)
        seen.append([int(column["input_ids"][0, 1]) for column in found])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Contrast, "columns", keep)
        made = trained_embedding(job_in(folder), plan)
    words = SentenceTransformer(str(folder / "base"), device="cpu").tokenizer
    search, text = (words.convert_tokens_to_ids(word) for word in ("search:", "text:"))
    assert {tuple(row) for row in seen} == {(search, text, text) if negatives else (search, text)}
    assert made.provenance.hyperparameters["query_prefix"] == "search: "
    assert made.validation_rows > 0


def test_of_labelled_texts_both_sides_are_queries(given: Path) -> None:
    model, _ = load_encoder(find_encoder(str(given / "base")))
    plan = replace(PLAN, query_prefix="search: ", passage_prefix="text: ", dtype="fp32")
    assert Contrast.of(model, plan, labelled=True).passage_prefix == "search: "
    assert Contrast.of(model, plan, labelled=False).passage_prefix == "text: "


@pytest.mark.parametrize(
    "changed",
    [
        {"dtype": "bf16"},
        {"gradient_checkpointing": True},
        pytest.param(
            {"device": "cuda", "dtype": "auto"},
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ),
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_other_ways_to_compute_gain_too(folder: Path, changed: dict[str, Any]) -> None:
    made = trained_embedding(job_in(folder), replace(PLAN, **changed))
    assert made.gain > 0.05
    assert made.provenance.hyperparameters["dtype"] in ("bf16", "fp32")


def test_what_is_left_out_is_told(folder: Path) -> None:
    (folder / "rows.jsonl").unlink()
    long = " ".join(["rain sun"] * 40)
    rows = [*labelled(), {"text": long, "label": "weather"}, {"text": "hail", "label": "alone"}]
    write_rows(folder / "rows.jsonl", rows)
    told = Told()
    made = trained_embedding(job_in(folder), replace(PLAN, max_steps=1), told)
    assert made.shortened == 1
    assert "1 of 50 texts have more than 32 tokens and lose their end" in told.notes[0]
    assert "1 labels have but one text and are not learned" in told.notes[0]


def test_of_few_rows_more_are_held_out(folder: Path) -> None:
    (folder / "rows.jsonl").unlink()
    write_rows(folder / "rows.jsonl", labelled(12))
    told = Told()
    made = trained_embedding(job_in(folder), replace(PLAN, max_steps=2), told)
    assert told.notes == ["20 % of the rows are held out, for of 10 % no two can be told apart"]
    assert made.provenance.hyperparameters["validation_share"] == 0.2
    assert made.validation_rows == 2


def test_what_is_taken_or_missing_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "kept").write_text("")
    with pytest.raises(AdapterExistsError):
        trained_embedding(job_in(folder), PLAN)
    with pytest.raises(BackendError, match="nothing is downloaded"):
        trained_embedding(job_in(folder, out=folder / "o", base="some/where"), PLAN)
    with pytest.raises(ConfigError, match="--max-length is 33; the model reads at most 32"):
        trained_embedding(job_in(folder, out=folder / "o"), replace(PLAN, max_length=33))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"package datasets.*pip install 'intrinsic-lora\[train"):
        trained_embedding(job_in(folder, out=folder / "o"), PLAN)
    assert sorted(path.name for path in folder.iterdir()) == ["base", "mine", "rows.jsonl"]


def test_a_full_memory_says_what_to_lower(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(preparing, "add_adapter", full)
    with pytest.raises(CapacityError, match=r"lower --batch-pairs \(now 4\), --max-length"):
        trained_embedding(job_in(folder), PLAN)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batch_pairs": 1}, "--batch-pairs is 1; it must be a whole number of at least 2"),
        ({"temperature": 0.0}, "--temperature is 0.0; it must be more than 0"),
        ({"query_prefix": 3}, "--query-prefix is 3; it must be a text"),
        ({"rank": 0}, "--rank is 0"),
    ],
)
def test_settings_are_checked_when_they_are_made(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        EmbeddingPlan(**changed)
    assert words in str(refused.value)


def test_the_bundled_encoder_is_found_by_both_names() -> None:
    found = find_encoder(BUNDLED_MODEL)
    assert found == find_encoder(f"sentence-transformers/{BUNDLED_MODEL}")
    assert found.name == f"sentence-transformers/{BUNDLED_MODEL}"
    assert (found.folder / "model.safetensors").is_file()
