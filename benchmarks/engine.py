"""The engine beside PEFT: one process, the same weights and adapters, A B A B.

    python -m benchmarks engine --json

A model of the shape of Qwen2-0.5B (hidden 896, 24 layers, intermediate 4864, 14 heads over 2, own
vocabulary of 32,000) with random weights; adapters of rank 16 on all seven projections, random.
Each figure is a ratio of medians over interleaved rounds; the times in milliseconds stand beside
it, median and 99th percentile, per dtype.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._engine_parts import load, merge, mixed_batch, overhead, switch
from benchmarks._engine_serving import concurrent, load_flat
from benchmarks._rivals import Rivals, build
from intrinsic.engine import LoraEngine
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import Mixture
from tests.tiny import llama, write_adapter

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PARTS = {part.__name__: part for part in (switch, load, merge, overhead, mixed_batch, concurrent)}
"""In this order: the last one takes the engine off the model."""


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure every figure in each dtype."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks engine")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--swaps", type=int, default=10_000)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")
    result: dict[str, Any] = {"rounds": options.rounds, "threads": options.threads}
    for name in options.dtypes:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            _say(f"{name}: building")
            rivals = build(Path(folder), DTYPES[name], options.layers)
            result[name] = _figures(rivals, options.rounds, options.parts)
    _say("loads and swaps on a small model")
    with tempfile.TemporaryDirectory() as folder:
        result |= load_flat(Path(folder), options.rounds)
    result["bit_exact_after"] = _bit_exact(options.swaps)
    return result


def _figures(rivals: Rivals, rounds: int, parts: Sequence[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, part in PARTS.items():
        if name in parts:
            _say(f"  {name}")
            figures |= part(rivals, rounds)
    return figures


def _bit_exact(swaps: int) -> int:
    """Swaps on a small bf16 model, merged every tenth time, after which it is bit-identical."""
    model = llama(dtype=torch.bfloat16)
    engine = LoraEngine(model)
    before = engine.fingerprint()
    with tempfile.TemporaryDirectory() as folder:
        found = [
            read_checkpoint(write_adapter(Path(folder) / name, model, seed=seed))
            for seed, name in enumerate("ab")
        ]
    for swap in range(swaps):
        engine.load(found[swap % 2], "ab"[swap % 2])
        if swap % 10 == 0:
            engine.merge(Mixture.of({"ab"[swap % 2]: 1.0 + swap / swaps}))
            engine.restore()
        engine.unload("ab"[swap % 2])
    return swaps if engine.fingerprint() == before else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
