"""What adapters cost on an encoder: the bare one, PEFT and ours, over the same short texts.

    python -m benchmarks embedding --json [--texts 2000] [--rounds 5] [--data DIR]

On one thread, in turn. `bare` is `SentenceTransformer.encode` with its own batch size, 32, and with
64; ratios are over the better of the two. `one_adapter_vs_bare` is our throughput with one
adapter over that of the bare encoder, `mixed_vs_bare` that with another of eight per text,
`vs_peft` and `mixed_vs_peft` the same over PEFT's, which takes the adapters one after the other.
Ours keeps no vectors. All adapters have rank 8 on every matrix. `cpu_` ratios are of processor
time in place of time on the clock. `min_cosine_to_peft` is over all texts, in both cases.

With `--data`, a folder of CLINC150, an adapter is trained on train in less than 20 minutes, and
`router_gain_points` says by how many points it makes the routers' top-1 on valid better; see
`_embedding_router.py`. `--only-router` leaves out the rest, `--more` trains a second one on fewer
intents.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import torch

from benchmarks._embedding_router import RouterTrial, router_gain
from benchmarks._embedding_setting import Rivals, rivals, short_texts, write_adapters
from benchmarks._timing import Times


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure; times in milliseconds per round over all texts, median and 99th percentile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks embedding")
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="a folder with CLINC150, for the router's gain")
    parser.add_argument("--only-router", action="store_true")
    parser.add_argument("--more", action="store_true", help="the router's gain, from more sides")
    parser.add_argument("--steps", type=int, default=60, help="of the training")
    parser.add_argument("--adapters", type=Path, help="keeps what is trained, or has it already")
    options = parser.parse_args(argv)
    if options.only_router and options.data is None:
        parser.error("--only-router takes --data DIR")
    torch.set_num_threads(1)
    result = {} if options.only_router else _measured(options)
    if options.data is not None:
        result |= _router(options)
    return result


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        paths = write_adapters(Path(folder), options.seed)
        with rivals(short_texts(options.texts, options.seed), paths) as all_three:
            return {
                **_throughput(all_three, options.rounds),
                "min_cosine_to_peft": _min_cosine(all_three),
                "texts": options.texts,
                "rounds": options.rounds,
                "machine": f"{platform.processor() or platform.machine()}, 1 thread",
                "torch": torch.__version__,
            }


def _router(options: argparse.Namespace) -> dict[str, Any]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    began = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:5.0f} s  {line}", file=sys.stderr, flush=True)

    trial = RouterTrial(
        options.data, steps=options.steps, more=options.more, adapters=options.adapters
    )
    return anyio.run(router_gain, trial, say)


def _throughput(all_three: Rivals, rounds: int) -> dict[str, Any]:
    names = all_three.names
    works: dict[str, Callable[[], object]] = {
        "bare": all_three.run_bare,
        "bare_64": lambda: all_three.run_bare(64),
        "ours_base": lambda: all_three.run_ours("base"),
        "ours_one": lambda: all_three.run_ours("a0"),
        "ours_mixed": lambda: all_three.run_ours(names),
        "peft_one": all_three.run_peft,
        "peft_mixed": all_three.run_peft_mixed,
    }
    clock, cpu = _timed(works, rounds)
    result: dict[str, Any] = {}
    for prefix, times in (("", clock), ("cpu_", cpu)):
        bare = min(("bare", "bare_64"), key=times.median)
        result |= {
            f"{prefix}one_adapter_vs_bare": times.ratio(bare, "ours_one"),
            f"{prefix}mixed_vs_bare": times.ratio(bare, "ours_mixed"),
            f"{prefix}base_vs_bare": times.ratio(bare, "ours_base"),
            f"{prefix}vs_peft": times.ratio("peft_one", "ours_one"),
            f"{prefix}mixed_vs_peft": times.ratio("peft_mixed", "ours_mixed"),
        }
    return {**result, **clock.shown}


def _timed(works: Mapping[str, Callable[[], object]], rounds: int) -> tuple[Times, Times]:
    """Each work in turn, from another one on in every round; the first round does not count.

    The seconds on the clock, and those of this process's threads.
    """
    clock: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    for round_ in range(rounds + 1):
        for name in order:
            began, busy = time.perf_counter(), time.process_time()
            works[name]()
            if round_:
                clock[name].append(time.perf_counter() - began)
                cpu[name].append(time.process_time() - busy)
        order = order[1:] + order[:1]
    return Times(clock), Times(cpu)


def _min_cosine(all_three: Rivals) -> float:
    pairs = (
        (all_three.run_ours("a0"), all_three.run_peft()),
        (all_three.run_ours(all_three.names), all_three.run_peft_mixed()),
    )
    return min(float(np.min(np.sum(ours * theirs, axis=1))) for ours, theirs in pairs)
