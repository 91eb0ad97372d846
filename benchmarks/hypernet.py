"""Weights generated from a description, beside what else could be done: one process run.

    python -m benchmarks hypernet --json
    python -m benchmarks hypernet --quick --json        (does everything work: figures mean little)

A Llama of 3 layers (hidden 64, grouped-query attention) is pre-trained here on composed string
tasks (`_hypernet_tasks.py`); pairs of operations are held out from it and from every
hypernetwork. What is learned end to end is judged on rows, tasks and wordings that were never
learned. Nothing is chosen on held-out pairs.

- `recovered`: the share of the oracle LoRA's gain over the bare model, in percent of the loss, on
  unseen pairs, described in wordings for training; `_worst` is the worst training of all;
  `_new_wording` in wordings never trained on; `_new_skill` on an operation that the base never
  saw, in combinations that the hypernetwork never saw.
- The default is `core`, chosen on validation pairs; `core_gelu` is the same with a bend in it.
- `accuracy`: share of answers that greedy generation gets right to the last sign.
- `multi_task` is one LoRA for all tasks, `nearest_adapter` the LoRA of the trained task whose
  descriptions are nearest, `prompted` the base that reads the description.
- `gated_identical`: share of unrelated queries answered bit for bit as by the bare model;
  `refused_good`: good queries that the gate refuses, in percent; `false_accepts`: how often the
  check on one example lets weights through for an operation that nobody trained on, and
  `check_refused_good`, `check_refused_new_wording` what it refuses of unseen pairs, in percent.
- `few_shot_accuracy`: ten steps on eight examples from generated weights; `_scratch` from none.
- `mixed_batch_ratio`: 16 answers of 16 tasks over 16 answers of the bare model.

The bases are kept in the folder `--cache`, where one is named. With `--data DIR`, a folder of
described tasks (`index.jsonl`), a hypernetwork for the bundled language model learns all but six
of them: key `bundled`. `--encoder bundled` reads descriptions with the bundled MiniLM.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks._hypernet_bundled import bundled
from benchmarks._hypernet_runs import DEFAULT, MULTI_TASK, Ends, Job, measure, prepare
from benchmarks._hypernet_setting import QUICK, Sizes
from benchmarks._hypernet_times import half_b, times

KEYED = ("shared_heads", "per_rank", "heads", MULTI_TASK)
OTHERS = ("core_gelu", "core_diagonal", "shared_heads", "per_rank", "heads", MULTI_TASK)


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Train, score and time."""
    options = _options(argv)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    torch.set_num_threads(1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as made:
        jobs = _jobs(options, options.cache or Path(made))
        result = _measured(jobs, options)
    if options.data is not None:
        result |= bundled(options.data, options.data_steps)
    return result | {
        "encoder": options.encoder,
        "processes": options.processes,
        "seconds": round(time.perf_counter() - started),
    }


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks hypernet")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one split, few steps")
    size.add_argument("--full", action="store_true", help="3 seeds x 4 splits for everything")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the bases")
    parser.add_argument("--encoder", default="hashed-stems:1024:0")
    parser.add_argument("--processes", type=int, default=2, help="each has one thread")
    parser.add_argument("--others", nargs="*", choices=OTHERS, default=None)
    parser.add_argument("--data", type=Path, help="described tasks for the bundled model, too")
    parser.add_argument("--data-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, help="of every training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, help="trainings of the default on each split")
    parser.add_argument("--splits", type=int, choices=range(1, 5))
    return parser.parse_args(argv)


def _jobs(options: argparse.Namespace, cache: Path) -> list[Job]:
    """The trainings, the default's first."""
    sizes = QUICK if options.quick else Sizes()
    if options.steps is not None:
        sizes = replace(sizes, steps=options.steps, other_steps=options.steps)
    splits = options.splits or (1 if options.quick else 4 if options.full else 2)
    seeds = options.seeds or (1 if options.quick else 3)
    first = Job(0, DEFAULT, 0, sizes, cache, options.encoder, is_default=True)
    others = options.others if options.others is not None else OTHERS if options.full else KEYED
    main = [replace(first, split=s, seed=i) for s in range(splits) for i in range(seeds)]
    others = [
        replace(first, split=split, seed=seed, architecture=name, is_default=False)
        for name in others
        for split in range(splits)
        for seed in range(seeds if options.full else 1)
    ]
    return main + others


def _measured(jobs: Sequence[Job], options: argparse.Namespace) -> dict[str, Any]:
    first = {job.split: job for job in reversed(jobs)}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn) as pool:
        by_split = sorted(first)
        prepared = dict(
            zip(by_split, pool.map(prepare, [first[split] for split in by_split]), strict=True)
        )
        timed = _timed(jobs[0], options.rounds)  # while nothing else runs
        ends: list[Ends] = [prepared[job.split][0] for job in jobs]
        runs = list(pool.map(measure, jobs, ends))
    settings = {f"split_{split}": figures for split, (_, figures) in prepared.items()}
    return _keys(runs, prepared) | timed | {"runs": runs, "settings": settings}


def _timed(job: Job, rounds: int) -> dict[str, Any]:
    return times(job.setting(), "core", rounds) | half_b("core", rounds)


def _keys(
    runs: Sequence[Mapping[str, Any]], prepared: Mapping[int, tuple[Ends, Mapping[str, Any]]]
) -> dict[str, Any]:
    """What the issue asks for by name, and each architecture on every part."""
    default = [run for run in runs if run["architecture"] == DEFAULT]
    pairs = [run["parts"]["unseen_pair"]["recovered"] for run in default]
    named = dict.fromkeys(run["architecture"] for run in runs)
    groups: dict[str, Any] = {
        name: _over([run for run in runs if run["architecture"] == name]) for name in named
    }
    groups["default"] = groups[DEFAULT] | {
        "recovered_worst": min(pairs),
        "recovered_new_wording": _part(default, "unseen_pair_new_wording"),
        "recovered_new_skill": _part(default, "new_skill"),
    }
    nearest = [figures["nearest_adapter"] for _, figures in prepared.values()]
    prompts = [figures["prompted"]["new_skill"]["accuracy"] for _, figures in prepared.values()]
    return groups | {
        "nearest_adapter": {key: _mean(one[key] for one in nearest) for key in nearest[0]},
        "new_skill_prompt_accuracy": max(prompts),
        "gated_identical": min(run["gate"]["identical"] for run in default),
        "refused_good": max(run["gate"]["refused_good"] for run in default),
        "false_accepts": sum(run["check"]["false_accepts"] for run in default),
        "check_refused_good": _mean(run["check"]["refused_good"] for run in default),
        "check_refused_new_wording": _mean(r["check"]["refused_new_wording"] for r in default),
        "few_shot_accuracy": _mean(r["few_shot"]["unseen_pair"]["generated"] for r in default),
        "few_shot_scratch": _mean(r["few_shot"]["unseen_pair"]["scratch"] for r in default),
    }


def _over(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over an architecture's trainings."""
    pairs = [run["parts"]["unseen_pair"]["recovered"] for run in runs]
    return {
        "recovered": _mean(pairs),
        "recovered_worst": min(pairs),
        "parameters": runs[0]["parameters"],
        "train_s": _mean(run["train_s"] for run in runs),
        "trainings": len(runs),
        "parts": {part: _part(runs, part) for part in runs[0]["parts"]},
        "accuracy": {
            part: _mean(run["parts"][part]["accuracy"] for run in runs) for part in runs[0]["parts"]
        },
    }


def _part(runs: Sequence[Mapping[str, Any]], part: str) -> float:
    return _mean(run["parts"][part]["recovered"] for run in runs)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
