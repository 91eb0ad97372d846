"""Cards are valid TOML and hold what routing needs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from intrinsic.registry.provenance import Provenance
from intrinsic.training.cards import PROFILES, adapter_card, choose_examples, write_card
from intrinsic.training.corpus import DOMAINS, Row
from intrinsic.training.own_words import OWN_WORDS

ROWS = [Row(f"r{n}", f'Quote "clause" {n}\nwith a \\ and é', "...") for n in range(30)]


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_card_reads_back_as_it_was_meant(domain: str, tmp_path: Path) -> None:
    write_card(tmp_path, domain, ROWS)
    card = tomllib.loads((tmp_path / "card.toml").read_text(encoding="utf-8"))
    assert (card["name"], card["domain"], card["version"]) == (domain, domain, "1.0.0")
    assert card["keywords"] == PROFILES[domain].keywords.split()
    own_words = [line.strip() for line in OWN_WORDS[domain].splitlines()]
    prompts = {row.prompt for row in ROWS}
    assert all(text in prompts or text in own_words for text in card["examples"])
    assert sum(text in prompts for text in card["examples"]) == 16
    assert len(card["examples"]) == 16 + 8


def test_keywords_are_single_lower_case_words() -> None:
    for profile in PROFILES.values():
        words = profile.keywords.split()
        assert 8 <= len(set(words)) == len(words) <= 15
        assert all(word.isalpha() and word.islower() for word in words)


def test_examples_of_code_come_mostly_from_described_tasks() -> None:
    library = [Row(f"stdlib-{n}", f"library {n}", "...") for n in range(300)]
    chosen = choose_examples("coding", [*ROWS, *library])
    assert sum(text.startswith("library") for text in chosen) == 4


def test_a_model_card_states_both_accuracies_with_intervals() -> None:
    figures = {
        "loss_base": 4.0, "loss_adapter": 3.0, "loss_rows": 150, "questions": 400,
        "accuracy_base": 0.4, "accuracy_base_95": [0.35, 0.45], "best_adapter": "math",
        "accuracy_adapter": 0.6, "accuracy_adapter_95": [0.55, 0.65],
        "accuracy_base_plain": 0.3, "accuracy_adapter_plain": 0.325,
    }  # fmt: skip
    settings = {
        "rank": 16, "train_rows": 9, "validation_rows": 2, "steps": 2, "best_step": 1,
        "dtype": "bf16",
    }  # fmt: skip
    training = Provenance(hyperparameters=settings, seed=1, trainer="intrinsic train")
    text = adapter_card("math", training, figures)
    assert "40.0 % [35.0, 45.0]" in text
    assert "60.0 % [55.0, 65.0]" in text
    assert "30.0 % | 32.5 %" in text
    assert "(25 % lower)" in text
