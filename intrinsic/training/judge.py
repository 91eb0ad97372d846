"""Measure the base and every adapter on rows that no training saw, as `evaluate` defines it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from rich.console import Console
from rich.progress import track
from transformers import AutoModelForCausalLM, AutoTokenizer

from intrinsic.training.corpus import DOMAINS, Row, dev_split, domain_rows
from intrinsic.training.evaluate import (
    QUESTIONS_PER_DOMAIN,
    Score,
    accuracy_of,
    answer_loss,
    by_likelihood,
    make_questions,
    score_questions,
)
from intrinsic.training.scoring import ModelScorer

LOSS_ROWS = 100
SPLITS = ("valid", "dev")


class Bench:
    """The base with every adapter loaded beside it; `only` chooses which one answers."""

    def __init__(self, base: Path, adapters: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.names = sorted(p.parent.name for p in adapters.glob("*/adapter_config.json"))
        if not self.names:
            raise FileNotFoundError(f"no adapter in {adapters}; train them with 'adapters'")
        plain: Any = AutoModelForCausalLM.from_pretrained(base).float().eval()
        first, *others = self.names
        self._model = PeftModel.from_pretrained(plain, str(adapters / first), adapter_name=first)
        for name in others:
            self._model.load_adapter(str(adapters / name), adapter_name=name)
        self._model.eval()

    @contextmanager
    def only(self, name: str | None) -> Iterator[Score]:
        """Score under the adapter `name`, or under the untouched base for None."""
        scorer = ModelScorer(self._model, self.tokenizer)
        if name is None:
            with self._model.disable_adapter():
                yield scorer
        else:
            self._model.set_adapter(name)
            yield scorer


def judge_domain(bench: Bench, domain: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Loss under base and all adapters, accuracy under base and the domain's own."""
    few = list(rows)[:: max(1, len(rows) // LOSS_ROWS)]
    losses: dict[str, float] = {}
    for name in bench.names:
        with bench.only(name) as score:
            losses[name] = answer_loss(few, score)
    questions = make_questions(rows, QUESTIONS_PER_DOMAIN)
    with bench.only(None) as score:
        loss_base = answer_loss(few, score)
        scored_base = score_questions(questions, score)
    with bench.only(domain) as score:
        scored = score_questions(questions, score)
    base, adapted = accuracy_of(scored_base), accuracy_of(scored)
    return {
        "loss_base": loss_base,
        "loss_adapter": losses[domain],
        "best_adapter": min(losses, key=lambda name: losses[name]),
        "accuracy_base": base.share,
        "accuracy_base_95": [base.low, base.high],
        "accuracy_adapter": adapted.share,
        "accuracy_adapter_95": [adapted.low, adapted.high],
        "questions": len(questions),
        "accuracy_base_plain": accuracy_of(scored_base, by_likelihood).share,
        "accuracy_adapter_plain": accuracy_of(scored, by_likelihood).share,
        "loss_rows": len(few),
        "losses": losses,
    }


def judge_all(
    data: Path,
    base: Path,
    adapters: Path,
    domains: Collection[str] = DOMAINS,
    split: str = "valid",
) -> dict[str, dict[str, Any]]:
    """`judge_domain` for each adapter at hand that is among `domains`.

    `split` is `valid`, or `dev` for the train rows kept apart to choose plans by.
    """
    bench = Bench(base, adapters)
    chosen = [name for name in bench.names if name in domains]
    return {
        name: judge_domain(bench, name, _unseen(data, name, split))
        for name in track(chosen, "judging", console=Console(stderr=True))
    }


def _unseen(data: Path, domain: str, split: str) -> list[Row]:
    if split == "valid":
        return domain_rows(data, domain, "valid")
    _, dev = dev_split(domain_rows(data, domain, "train"))
    return dev
