"""A merged adapter on disk: what PEFT loads, what we read back, and nothing half written."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from intrinsic.card import AdapterCard
from intrinsic.engine import LoraEngine
from intrinsic.errors import AdapterError, AdapterExistsError, ConfigError
from intrinsic.lora import (
    LoraCheckpoint,
    MergeOptions,
    check_target,
    delta,
    merge_checkpoints,
    merge_method,
    mixed_card,
    read_checkpoint,
    save,
    save_adapter,
)
from intrinsic.lora.mixture_card import card_text
from intrinsic.mixture import Mixture
from intrinsic.registry import AdapterRegistry
from tests.tiny import factors_for, gpt2, llama, tokens, write_adapter, write_files

Model = Callable[[], Any]
Case = tuple[Model, dict[str, Any], dict[str, Any], Mapping[str, float]]

HALF = {"a": 0.7, "b": 0.3}
CASES: dict[str, Case] = {
    "alike": (llama, {}, {}, HALF),
    "not summing to 1": (llama, {}, {}, {"a": 2.0, "b": 0.5}),
    "negative weight": (llama, {}, {}, {"a": 1.0, "b": -0.6}),
    "zero weight": (llama, {"targets": ("up_proj",)}, {}, {"a": 0.0, "b": 0.8}),
    "rslora": (llama, {"use_rslora": True}, {"r": 8}, HALF),
    "mixed ranks": (llama, {"r": 2}, {"r": 7, "alpha": 3}, HALF),
    "mixed targets": (llama, {"targets": ("q_proj", "up_proj")}, {"r": 3}, HALF),
    "rank and alpha pattern": (
        llama,
        {
            "ranks": {"q_proj": 2, "v_proj": 4},
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"v_proj": 5, "model.layers.1.self_attn.q_proj": 6},
        },
        {"targets": ("v_proj", "lm_head"), "r": 5},
        HALF,
    ),
    "some layers": (llama, {}, {"target_modules": r".*layers\.1\..*q_proj", "only": "1"}, HALF),
    "conv1d": (
        gpt2,
        {"targets": ("c_attn", "c_proj"), "fan_in_fan_out": True},
        {"targets": ("c_fc",), "fan_in_fan_out": True},
        HALF,
    ),
}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(tokens()).logits
        return found


def adapter(folder: Path, make: Model, seed: int, settings: dict[str, Any]) -> LoraCheckpoint:
    given = dict(settings)
    only = given.pop("only", None)
    if only is None:
        return read_checkpoint(write_adapter(folder, make(), seed=seed, **given))
    tensors = factors_for(make(), ("q_proj",), seed=seed)
    kept = {key: value for key, value in tensors.items() if f"layers.{only}." in key}
    return read_checkpoint(write_files(folder, kept, **given))


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Model, dict[str, LoraCheckpoint], Mapping[str, float]]:
    make, a, b, weights = CASES[request.param]
    found = {"a": adapter(tmp_path / "a", make, 1, a), "b": adapter(tmp_path / "b", make, 2, b)}
    return make, found, weights


def engine_of(model: Any, checkpoints: Mapping[str, LoraCheckpoint]) -> LoraEngine:
    engine = LoraEngine(model)
    for name, checkpoint in checkpoints.items():
        engine.load(checkpoint, name)
    return engine


def peft_logits(make: Model, folder: Path) -> torch.Tensor:
    from peft import PeftModel

    return logits(PeftModel.from_pretrained(make(), str(folder)).eval())


@pytest.mark.parametrize("method", ["exact", "svd"])
def test_peft_gives_the_logits_of_our_engine_under_the_mixture(
    tmp_path: Path,
    case: tuple[Model, dict[str, LoraCheckpoint], Mapping[str, float]],
    method: str,
) -> None:
    make, checkpoints, weights = case
    terms = [(checkpoints[name], weight) for name, weight in weights.items()]
    saved = save_adapter(merge_checkpoints(terms, method), tmp_path / "merged")
    model = make()
    base = logits(model)
    with engine_of(model, checkpoints).activate(Mixture.of(weights)):
        wanted = logits(model)
    assert (wanted - base).abs().max() > 1e-3
    torch.testing.assert_close(peft_logits(make, saved.path), wanted, atol=2e-5, rtol=2e-5)
    again = make()
    with engine_of(again, {"m": saved}).activate(Mixture.of({"m": 1.0})):
        torch.testing.assert_close(logits(again), wanted, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("method", ["ties", "magnitude_prune"])
def test_peft_gives_the_logits_of_the_fused_dense_methods(
    tmp_path: Path,
    case: tuple[Model, dict[str, LoraCheckpoint], Mapping[str, float]],
    method: str,
) -> None:
    make, checkpoints, weights = case
    terms = [(checkpoints[name], weight) for name, weight in weights.items()]
    merged = merge_checkpoints(terms, method, options=MergeOptions(rank=999))
    saved = save_adapter(merged, tmp_path / "merged")
    model = make()
    engine = engine_of(model, checkpoints)
    engine.merge(Mixture.of(weights), merge_method(method))
    with engine.activate(Mixture.of(weights)):
        wanted = logits(model)
    torch.testing.assert_close(peft_logits(make, saved.path), wanted, atol=5e-5, rtol=5e-5)


def test_plain_names_of_layers_stay_and_others_are_named_in_full(tmp_path: Path) -> None:
    a = read_checkpoint(write_adapter(tmp_path / "a", llama(), task_type="CAUSAL_LM"))
    b = read_checkpoint(write_adapter(tmp_path / "b", llama(), targets=("up_proj",), r=2))
    saved = save_adapter(merge_checkpoints([(a, 1.0), (b, 1.0)]), tmp_path / "m")
    config = json.loads((saved.path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "up_proj", "v_proj"]
    assert (config["r"], config["lora_alpha"]) == (4, 4)
    assert config["rank_pattern"] == config["alpha_pattern"] == {"up_proj": 2}
    assert config["task_type"] is None
    assert all(factors.scale == 1.0 for factors in saved.factors.values())


def test_ranks_that_differ_within_one_kind_of_layer_are_named_in_full(tmp_path: Path) -> None:
    make, a, b, _ = CASES["some layers"]
    terms = [
        (adapter(tmp_path / "a", make, 1, a), 1.0),
        (adapter(tmp_path / "b", make, 2, b), 1.0),
    ]
    saved = save_adapter(merge_checkpoints(terms), tmp_path / "m")
    config = json.loads((saved.path / "adapter_config.json").read_text())
    assert config["rank_pattern"] == {
        "model.layers.0.self_attn.q_proj": 4,
        "model.layers.1.self_attn.q_proj": 8,
    }
    assert config["target_modules"] == sorted(saved.factors)


def test_a_saved_mixture_is_an_adapter_like_any_other(tmp_path: Path) -> None:
    """It can be registered, and merged again."""
    a = read_checkpoint(write_adapter(tmp_path / "a", llama(), seed=1))
    b = read_checkpoint(write_adapter(tmp_path / "b", llama(), seed=2))
    once = save_adapter(merge_checkpoints([(a, 0.5), (b, 1.0)]), tmp_path / "once")
    twice = save_adapter(merge_checkpoints([(once, 2.0), (b, -2.0)]), tmp_path / "twice")
    for module, factors in twice.factors.items():
        torch.testing.assert_close(delta(factors), delta(a.factors[module]), atol=1e-6, rtol=1e-6)
    registry = AdapterRegistry.from_folder(tmp_path)
    assert registry.problems == []
    assert registry.get_adapter("twice").card == AdapterCard("twice")


def test_the_same_names_with_other_weights_are_another_adapter(tmp_path: Path) -> None:
    """Trap 5: what is saved hangs on the weights, not on the names."""
    terms = [(read_checkpoint(write_adapter(tmp_path / "a", llama())), 0.7)]
    first = save_adapter(merge_checkpoints(terms), tmp_path / "m")
    second = save_adapter(merge_checkpoints([(terms[0][0], 0.3)]), tmp_path / "m", replace=True)
    assert first.digest != second.digest
    again = save_adapter(merge_checkpoints(terms), tmp_path / "again")
    assert again.digest == first.digest


@pytest.fixture
def merged(tmp_path: Path) -> Any:
    checkpoint = read_checkpoint(write_adapter(tmp_path / "from" / "a", llama()))
    return merge_checkpoints([(checkpoint, 1.0)])


def test_a_folder_is_not_overwritten_unless_it_is_an_adapters_and_asked_for(
    tmp_path: Path, merged: Any
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(AdapterExistsError, match=r"taken exists already; name a folder that"):
        save_adapter(merged, taken)
    for refused in (taken, tmp_path / "from", tmp_path / "link", tmp_path / "file"):
        (tmp_path / "file").touch()
        if not (tmp_path / "link").is_symlink():
            (tmp_path / "link").symlink_to(tmp_path / "from" / "a")
        with pytest.raises(AdapterExistsError, match="is not a folder of one adapter"):
            save_adapter(merged, refused, replace=True)
    (tmp_path / "from" / "adapter_config.json").touch()
    with pytest.raises(AdapterExistsError, match="is not a folder of one adapter"):
        check_target(tmp_path / "from", replace=True)
    assert list(taken.iterdir()) == []


def test_a_name_that_no_adapter_can_have_is_refused_before_anything_is_made(
    tmp_path: Path, merged: Any
) -> None:
    with pytest.raises(ConfigError, match="adapter name 'a@b'"):
        save_adapter(merged, tmp_path / "new" / "a@b")
    assert not (tmp_path / "new").exists()


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, merged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save, "card_text", full)
    with pytest.raises(AdapterError, match=r"place/m cannot be written: No space left .*; name a"):
        save_adapter(merged, place / "m")
    assert list(place.iterdir()) == []


def test_a_place_where_nothing_can_be_written_is_refused_in_one_sentence(
    tmp_path: Path, merged: Any
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AdapterError, match=r"cannot be written: .*/file is a file; name a folder"):
        check_target(tmp_path / "file" / "sub" / "m")
    with pytest.raises(ConfigError, match=r"~nobody-of-that-name/m cannot be found.*name another"):
        check_target("~nobody-of-that-name/m")
    for place in ("/proc/nope", tmp_path / ("é" * 200)):
        with pytest.raises(AdapterError, match=r"(nope|ééé) cannot be written: .*; name a folder"):
            save_adapter(merged, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "from"]


def test_an_adapter_that_cannot_be_replaced_stays(
    tmp_path: Path, merged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "place" / "m"
    before = save_adapter(merged, folder)
    rename = Path.rename

    def fails_for_the_new(self: Path, target: Path) -> Path:
        if self.name == "m" and self.parent.suffix == ".tmp":
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with pytest.raises(AdapterError, match="place/m cannot be written: no; name a"):
        save_adapter(merged, folder, replace=True)
    assert read_checkpoint(folder).digest == before.digest
    assert list(folder.parent.iterdir()) == [folder]


def test_a_scan_does_not_see_what_is_half_written(
    tmp_path: Path, merged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def look(folder: Path) -> LoraCheckpoint:
        seen.append(len(AdapterRegistry.from_folder(tmp_path / "place")))
        return read_checkpoint(folder)

    monkeypatch.setattr(save, "read_checkpoint", look)
    save_adapter(merged, tmp_path / "place" / "m")
    assert seen == [0, 1]


def test_files_can_be_read_by_those_who_may_read_the_folder(tmp_path: Path, merged: Any) -> None:
    saved = save_adapter(merged, tmp_path / "m")
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in [*saved.path.iterdir(), tmp_path / "plain"]}
    assert len(modes) == 1


LAW = AdapterCard("law", "2", "legal", "Drafts clauses.", ("clause", "party"), ("draft a clause",))
MED = AdapterCard("med", "1", "medical", "Names symptoms.", ("symptom", "party"), ("am I ill?",))


def test_a_mixtures_card_says_what_its_adapters_said_the_heaviest_first() -> None:
    card = mixed_card("both", [(LAW, 0.3), (MED, 0.7)], "ties")
    assert card == AdapterCard(
        "both",
        "1",
        "medical, legal",
        "Names symptoms. Drafts clauses. (Mixture 0.7 x med@1 + 0.3 x law@2, merged by ties.)",
        ("symptom", "party", "clause"),
        ("am I ill?", "draft a clause"),
    )


def test_what_is_taken_away_is_not_promised() -> None:
    card = mixed_card("less", [(LAW, -0.3), (MED, 0.7)])
    assert (card.domain, card.examples) == ("medical", MED.examples)
    assert card.description.endswith("(Mixture 0.7 x med@1 + -0.3 x law@2, merged by exact.)")


def test_cards_are_written_so_that_they_are_read_back(tmp_path: Path, merged: Any) -> None:
    odd = AdapterCard(
        "m", "1.0", "", 'a "quote" \\ \x7f \t \u2028 \U0001f600\n', ("é", ""), ("x\x00y",)
    )
    assert tomllib.loads(card_text(odd))["description"] == odd.description
    saved = save_adapter(merged, tmp_path / "m", card=odd)
    assert AdapterRegistry().register_adapter(saved.path).card == odd
