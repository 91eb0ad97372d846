"""`python -m intrinsic.training base | adapters | evaluate | cards`: make and judge the model."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from intrinsic.registry.provenance import Provenance
from intrinsic.training import bundled_adapters, cards, corpus, judge, pretrain
from intrinsic.training.lora.plan import Dtype
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.train import trained
from intrinsic.training.precision import faster_dtype, without_denormals
from intrinsic.training.tokenizer import train_tokenizer

RECORD = "training.json"


def main() -> None:
    """Run the command named on the command line."""
    options = _parser().parse_args()
    commands = {
        "base": make_base,
        "adapters": make_adapters,
        "evaluate": evaluate,
        "cards": write_cards,
    }
    commands[options.command](options)


def make_base(options: argparse.Namespace) -> None:
    """Train tokenizer and base, then write weights, tokenizer, record and model card."""
    torch.set_num_threads(options.threads)
    plan = pretrain.PretrainPlan(
        steps=options.steps,
        minutes=options.minutes,
        seed=options.seed,
        dtype=faster_dtype(),
    )
    tokenizer = train_tokenizer(corpus.tokenizer_texts(options.data))
    mix = corpus.base_mix(options.data)
    model, result = pretrain.pretrain(tokenizer, mix, plan, options.checkpoint)
    pretrain.save_base(model, tokenizer, options.out)
    record = asdict(result) | {
        "seed": plan.seed,
        "parameters": model.num_parameters(),
        "dtype": str(plan.dtype).removeprefix("torch."),
        "threads": options.threads,
        "python": platform.python_version(),
    }
    _write_json(options.out / RECORD, record)
    sources = [f"{name}: {profile.source}" for name, profile in cards.PROFILES.items()]
    (options.out / "README.md").write_text(cards.base_card(record, sources), encoding="utf-8")


def make_adapters(options: argparse.Namespace) -> None:
    """Train and write the chosen domains' adapters, each on one thread, `--jobs` side by side."""
    if options.jobs == 1:
        for domain in options.domains:
            make_adapter(domain, options)
        return
    context = multiprocessing.get_context("spawn")  # a forked torch may hang on its threads
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        waiting = [pool.submit(make_adapter, domain, options) for domain in options.domains]
        for future in as_completed(waiting):
            future.result()


def make_adapter(domain: str, options: argparse.Namespace) -> None:
    """Do what `intrinsic train` does for one domain, then write its routing card."""
    torch.set_num_threads(1)
    dtype: Dtype = "bf16" if faster_dtype() is torch.bfloat16 else "fp32"
    plan = bundled_adapters.plan_for(domain, steps=options.steps, seed=options.seed, dtype=dtype)
    folder = options.out / domain
    with tempfile.TemporaryDirectory() as kept:
        tokenizer = AutoTokenizer.from_pretrained(options.base)
        rows = bundled_adapters.write_rows(options.data, domain, tokenizer, Path(kept))
        base = str(options.base)
        job = bundled_adapters.job_for(domain, rows, folder, base=base, force=options.force)
        with without_denormals():
            trained(job, plan, _Told(domain))
    cards.write_card(folder, domain, corpus.domain_rows(options.data, domain, "train"))


class _Told(Progress):
    """A line for each validation, and what is to be known."""

    def __init__(self, domain: str) -> None:
        self._domain = domain

    def note(self, text: str) -> None:
        print(f"{self._domain:<9}{text}", file=sys.stderr, flush=True)

    def validated(self, step: int, loss: float, *, best: bool) -> None:
        self.note(f"step {step}: held out {loss:.4f}" + (", the lowest so far" if best else ""))


def evaluate(options: argparse.Namespace) -> None:
    """Print the figures of unseen rows."""
    torch.set_num_threads(options.threads)
    figures = judge.judge_all(
        options.data, options.base, options.adapters, options.domains, options.split
    )
    if options.json:
        print(json.dumps({"domains": figures}, indent=2))
    else:
        _print_table(figures)


def write_cards(options: argparse.Namespace) -> None:
    """Put the figures of `python -m benchmarks demo --json` into the adapters' model cards."""
    figures = json.loads(options.figures.read_text(encoding="utf-8"))["domains"]
    for domain, found in figures.items():
        folder = options.adapters / domain
        provenance = Provenance.read(folder)
        if provenance is None:
            raise SystemExit(f"{folder} has no provenance.json; train the adapter first")
        text = cards.adapter_card(domain, provenance, found)
        (folder / "README.md").write_text(text, encoding="utf-8")


def _print_table(figures: dict[str, dict[str, Any]]) -> None:
    print("domain     loss base  adapter  best      accuracy base  adapter  questions")
    for name, f in figures.items():
        print(
            f"{name:<10} {f['loss_base']:9.3f} {f['loss_adapter']:8.3f}  {f['best_adapter']:<9}"
            f" {f['accuracy_base']:12.3f} {f['accuracy_adapter']:8.3f} {f['questions']:10}"
        )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m intrinsic.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    base = commands.add_parser("base", help="train tokenizer and base model")
    base.add_argument("--out", type=Path, default=Path("intrinsic/bundled/base"))
    base.add_argument("--steps", type=int, default=pretrain.PretrainPlan.steps)
    base.add_argument("--minutes", type=float, default=pretrain.PretrainPlan.minutes)
    base.add_argument("--checkpoint", type=Path, help="folder for a copy every 200 steps")
    adapters = commands.add_parser("adapters", help="train one LoRA adapter per domain")
    adapters.add_argument("--out", type=Path, default=Path("adapters"))
    adapters.add_argument("--steps", type=int, help="default: 1,400, and 2,200 for coding")
    adapters.add_argument("--force", action="store_true", help="replace those that are there")
    adapters.add_argument("--jobs", type=int, default=2, help="adapters trained side by side")
    judged = commands.add_parser("evaluate", help="measure base and adapters on unseen rows")
    judged.add_argument("--split", choices=judge.SPLITS, default="valid")
    judged.add_argument("--adapters", type=Path, default=Path("adapters"))
    judged.add_argument("--json", action="store_true", help="print JSON instead of a table")
    carded = commands.add_parser("cards", help="write the adapters' model cards")
    carded.add_argument("--adapters", type=Path, default=Path("adapters"))
    carded.add_argument("--figures", type=Path, required=True, help="what the benchmark printed")
    for command in (base, adapters, judged):
        command.add_argument("--data", type=Path, required=True, help="folder of the domains")
    for command in (base, judged):
        command.add_argument("--threads", type=int, default=2)
    for command in (adapters, judged):
        command.add_argument("--domains", nargs="+", choices=corpus.DOMAINS, default=corpus.DOMAINS)
        command.add_argument("--base", type=Path, default=Path("intrinsic/bundled/base"))
    for command in (base, adapters):
        command.add_argument("--seed", type=int, default=17)
    return parser


if __name__ == "__main__":
    main()
