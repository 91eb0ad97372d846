"""Fitting the gate on simulated registries, with a small encoder and made-up data."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from intrinsic.routing.gate import load_gate
from intrinsic.training import fit_gate
from intrinsic.training.gate_corpus import FILES, read_corpus
from intrinsic.training.own_words import DOMAIN_CARDS, OWN_WORDS
from intrinsic.training.simulated import simulate
from tests.routing.fakes import BagEmbedder

INTENTS = {f"intent{n}": ("home" if n % 2 else "travel") for n in range(8)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = random.Random(0)

    def write(path: Path, rows: list[dict[str, str]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    for split, many in (("train", 40), ("valid", 20)):
        rows = [
            {"text": f"{split} {intent} {domain} words{rng.randrange(99)} {n}"}
            | {"intent": intent, "domain": domain}
            for intent, domain in INTENTS.items()
            for n in range(many)
        ]
        rows += [
            {"text": f"{split} stranger{n}", "intent": "oos", "domain": "out_of_scope"}
            for n in range(many)
        ]
        write(tmp_path / "routing" / f"clinc150_{split}.jsonl", rows)
        for card in DOMAIN_CARDS:
            prompts = [{"prompt": f"{split} {card.description} {n}"} for n in range(many)]
            file = FILES.get(card.name, "{split}.jsonl").format(split=split)
            write(tmp_path / card.name / file, prompts)
    names = [("intent", name) for name in INTENTS] + [("domain", "home"), ("domain", "travel")]
    cards = [{"kind": kind, "name": name, "description": f"about {name}"} for kind, name in names]
    write(tmp_path / "routing" / "clinc150_cards.jsonl", cards)
    return tmp_path


def test_the_script_writes_a_gate_that_knows_right_from_wrong(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fit_gate, "SentenceEncoder", lambda **_: BagEmbedder(512))
    monkeypatch.setattr(fit_gate, "WHOLE_EXAMPLE_COUNTS", (5,))
    out, cache = data / "gate.json", data / "cache" / "vectors.npz"
    arguments = ["--data", str(data), "--out", str(out), "--cache", str(cache)]
    fit_gate.main([*arguments, "--registries", "12"])
    first = out.read_bytes()
    printed = capsys.readouterr().out
    assert "embedded" in printed
    assert "cosine   all" in printed
    fit_gate.main([*arguments, "--registries", "12"])
    assert out.read_bytes() == first
    assert "embedded" not in capsys.readouterr().out
    fit_gate.main(["--data", str(data), "--evaluate", "--cache", str(cache)])
    assert 'intent k=5   cosine   {"top1": 1.0' in capsys.readouterr().out
    for card in DOMAIN_CARDS:
        folder = data / "adapters" / card.name
        folder.mkdir(parents=True)
        toml = f'name = "{card.name}"\ndescription = "{card.description}"\nrank = 8\n'
        (folder / "card.toml").write_text(toml, encoding="utf-8")
    fit_gate.main(["--data", str(data), "--adapters", str(data / "adapters")])
    assert 'bundled legal    meaning  {"top1": 1.0' in capsys.readouterr().out
    provenance = json.loads(first)["provenance"]
    assert provenance["registries"] == 12
    assert provenance["valid"]["meaning"]["auroc"] > 0.8
    for name, features in fit_gate.GATES.items():
        assert load_gate(name, out).features == features


def test_no_registry_is_asked_what_it_shows(data: Path) -> None:
    train = read_corpus(data, "train", cap=30)
    assert all(len(prompts) <= 30 for prompts in train.texts.values())
    for registry in simulate(train, train, registries=24, seed=1):
        shown = {example for card in registry.cards for example in card.examples}
        names = {card.name for card in registry.cards}
        assert not shown & {text for text, answer in registry.asked if answer is not None}
        assert {answer for _, answer in registry.asked} <= names | {None}
        assert len(registry.asked) == 100


def test_own_words_of_fitting_are_not_those_of_testing() -> None:
    source = (Path(__file__).parent / "test_real_encoder.py").read_text(encoding="utf-8")
    for queries in OWN_WORDS.values():
        for query in queries.strip().splitlines():
            assert query.strip() not in source
