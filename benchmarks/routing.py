"""Routing on CLINC150 beside semantic-router: one process, the same encoder, the same queries.

    python -m benchmarks routing --data DIR --json

DIR holds `clinc150_{train,valid,cards}.jsonl`. The 150 intents are adapters, with k examples
drawn from train (five draws; mean and standard deviation), the 10 domains likewise. Valid is cut
once into a half to choose on and a half to report (1,500 queries in scope and 50 out of scope);
what is scored is the latter. Shares are in percent, times in milliseconds, `ece` in [0, 1].

- `top1`: in-scope queries whose first candidate is right.
- `a95`: in-scope queries accepted and right where the threshold on the first confidence refuses
  95 % of the out-of-scope ones; with its bootstrap interval, because these are but 50.
- `e2e`: right route or right refusal over all rows, at the router's own default threshold.
- `ece`: calibration error of the first confidence against being right, 15 bins, k = 5, 10, all.
- `near_oos_auroc_k10`: a quarter of the intents is missing; does the first confidence tell.
- `route_ms`, `vs_semantic_router` (its time over ours), `add_ms`: vectors ready, 10 examples each.
- `end_to_end_ms`, `batch_gain_32`: texts that were never encoded, with the encoder as installed.

Ours is the default router as it comes, with the vectors of the encoder as it comes; semantic-router
gets the same model's plain vectors, as sentence-transformers gives them, of the same `--runtime`
(by default the installed one; its times are taken on ours). It is as it comes, after its own `fit`
on the other half (`_fitted`), and with the card's sentence as one more utterance (`_with_card`).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import anyio

from benchmarks import _routing_rival as rival
from benchmarks._routing_data import halves, read
from benchmarks._routing_scores import Task, clinc150, domains, near
from benchmarks._routing_times import encoded, times
from benchmarks._routing_vectors import known_of
from intrinsic.routing import EncoderOptions, SentenceEncoder
from intrinsic.routing.encoder_options import Runtime

PARTS = {part.__name__: part for part in (times, encoded, clinc150, near, domains)}


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure every part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks routing")
    parser.add_argument("--data", type=Path, required=True, help="a folder with CLINC150")
    parser.add_argument("--half", choices=("report", "choose"), default="report")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--runtime", choices=get_args(Runtime), default="auto")
    parser.add_argument("--cache", type=Path, help="a file (.npz) that keeps the vectors")
    parser.add_argument("--without-rival", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    torch.set_num_threads(options.threads)
    return anyio.run(_measure, options)


async def _measure(options: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - started:5.0f} s  {line}", file=sys.stderr, flush=True)

    beside = rival.is_installed() and not options.without_rival
    if not beside:
        say("semantic-router is left out" + (": not installed" * (not rival.is_installed())))
    data = read(options.data)
    choose, report = halves(data.valid)
    scored, others = (report, choose) if options.half == "report" else (choose, report)
    encoder = SentenceEncoder(options=EncoderOptions(runtime=options.runtime, cached_texts=0))
    await encoder.warm_up()
    texts = data.texts() if set(options.parts) != {"encoded"} else []
    known = await known_of(texts, encoder, options.cache, say)
    plain = known
    if beside:
        say("the model's plain vectors, for semantic-router")
        cache = options.cache and options.cache.with_suffix(".plain.npz")
        without = EncoderOptions(runtime=options.runtime, cached_texts=0, middle_layer=0.0)
        plain = await known_of(texts, SentenceEncoder(options=without), cache, say)
    task = Task(data, scored, others, known, plain, options.seeds, beside, say)
    result: dict[str, Any] = {}
    for name, part in PARTS.items():
        if name in options.parts:
            result |= await part(task)
    return result | {
        "half": options.half,
        "rows": {"in_scope": sum(bool(row.intent) for row in scored), "all": len(scored)},
        "seeds": options.seeds,
        "threads": options.threads,
        "encoder": encoder.runtime,
        "semantic_router_version": rival.version(),
        "texts_encoded_late": known.missed,
        "seconds": round(time.perf_counter() - started),
    }
