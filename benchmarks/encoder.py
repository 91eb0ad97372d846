"""What encoding costs: torch beside ONNX in full precision and int8, alone and 32 at once.

    python -m benchmarks encoder --json [--data DIR]

On one thread; each form is asked for the same short queries in turn. `batch_gain_32` is the
time of 32 awaited one after the other over that of 32 started at once, through
`SentenceEncoder`. With `--data` (a folder with `clinc150_train.jsonl` and `clinc150_valid.jsonl`,
rows of `text` and `intent`) also: how far int8 vectors are from full precision, and what that
changes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import torch

from benchmarks._timing import interleave
from intrinsic import AdapterCard
from intrinsic.routing import EncoderOptions, HybridRouter, SentenceEncoder
from intrinsic.routing.disk_vectors import DiskVectors
from intrinsic.routing.model_loading import bundled_model
from intrinsic.routing.onnx_export import export
from intrinsic.routing.onnx_model import OnnxModel, open_session

AT_ONCE = 32
CARD_TEXTS = 15_000
CARD_EXAMPLES = 10
QUERIES = (
    "how much gas do I have in the tank", "what causes chest pain after running",
    "draft a clause on confidentiality", "write a function that sorts a list of names",
    "tell me a story about an old fox", "how long should the bread stay in the oven",
    "if a train needs two hours for 60 miles how fast is it", "book a table for four tonight",
)  # fmt: skip


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure; times in milliseconds, median and 99th percentile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks encoder")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plain = EncoderOptions(cache_dir=folder, cached_texts=0, threads=1)
        encoders = {
            "torch": SentenceEncoder(options=replace(plain, runtime="torch")),
            "onnx_fp32": _full_precision(plain),
            "onnx_int8": SentenceEncoder(options=replace(plain, runtime="onnx")),
        }
        two = SentenceEncoder(options=replace(plain, runtime="onnx", threads=2))
        for encoder in (*encoders.values(), two):
            anyio.run(encoder.warm_up)
        result = {
            **anyio.run(_one_by_one, encoders, options.rounds),
            "batch_gain_32": anyio.run(
                _batch_gains, {**encoders, "onnx_int8_2_threads": two}, max(5, options.rounds // 8)
            ),
            "disk_ms": _disk(Path(folder)),
            "rounds": options.rounds,
        }
        if options.data is not None:
            keeping = replace(plain, cached_texts=4096)
            exact, int8 = (
                SentenceEncoder(options=replace(keeping, runtime="torch")),
                SentenceEncoder(options=replace(keeping, runtime="onnx")),
            )
            result["quality"] = anyio.run(_quality, options.data, exact, int8)
    return result


def _full_precision(options: EncoderOptions) -> SentenceEncoder:
    encoder = SentenceEncoder(options=replace(options, runtime="onnx"))
    model = OnnxModel(None)
    model._session = open_session(export(bundled_model() / "model.safetensors", int8=False))
    encoder._model = model
    return encoder


async def _one_by_one(encoders: dict[str, SentenceEncoder], rounds: int) -> dict[str, Any]:
    """A short query: the model alone (`_model`), and through `embed`, on an event loop."""
    state = {"round": 0}

    def model(name: str) -> Callable[[], object]:
        loaded = encoders[name]._loaded()
        return lambda: loaded.encode([_query(state["round"])], 32)

    def count() -> None:
        state["round"] += 1

    alone = interleave({f"{name}_model": model(name) for name in encoders}, rounds, count)
    spent: dict[str, list[float]] = {name: [] for name in encoders}
    for number in range(rounds):
        for name, encoder in encoders.items():
            started = time.perf_counter()
            await encoder.embed([_query(number)])
            spent[name].append(1e3 * (time.perf_counter() - started))
    return {
        **alone.shown,
        **{
            f"{name}_ms": {"p50": float(np.median(took)), "p99": float(np.percentile(took, 99))}
            for name, took in spent.items()
        },
        **{f"{name}_cpu_ms": _cpu_ms(model(name), count, rounds) for name in encoders},
        "torch_over_int8": alone.ratio("torch_model", "onnx_int8_model"),
        "fp32_over_int8": alone.ratio("onnx_fp32_model", "onnx_int8_model"),
    }


def _cpu_ms(work: Callable[[], object], after: Callable[[], object], rounds: int) -> float:
    """The median of this thread's processor time, which neighbours on the machine inflate less."""
    spent = []
    for _ in range(rounds):
        started = time.thread_time()
        work()
        spent.append(1e3 * (time.thread_time() - started))
        after()
    return float(np.median(spent))


async def _batch_gains(encoders: dict[str, SentenceEncoder], rounds: int) -> dict[str, float]:
    alone: dict[str, list[float]] = {name: [] for name in encoders}
    together: dict[str, list[float]] = {name: [] for name in encoders}
    for number in range(rounds):
        texts = [_query(number * AT_ONCE + at) for at in range(AT_ONCE)]
        for name, encoder in encoders.items():
            started = time.perf_counter()
            for text in texts:
                await encoder.embed([text])
            alone[name].append(time.perf_counter() - started)
            started = time.perf_counter()
            async with anyio.create_task_group() as group:
                for text in texts:
                    group.start_soon(encoder.embed, [text])
            together[name].append(time.perf_counter() - started)
    return {name: float(np.median(alone[name]) / np.median(together[name])) for name in encoders}


def _disk(folder: Path) -> dict[str, float]:
    texts = [f"card text {number}" for number in range(CARD_TEXTS)]
    vectors = np.random.default_rng(0).normal(size=(CARD_TEXTS, 384)).astype(np.float32)
    disk = DiskVectors(folder, CARD_TEXTS)
    started = time.perf_counter()
    disk.put("benchmark", texts, vectors)
    written = time.perf_counter()
    disk.close()
    again = DiskVectors(folder, CARD_TEXTS)
    opened = time.perf_counter()
    found = again.get("benchmark", texts)
    read = time.perf_counter()
    again.close()
    assert all(one is not None for one in found)
    return {"write_15000": 1e3 * (written - started), "read_15000": 1e3 * (read - opened)}


async def _quality(data: Path, exact: SentenceEncoder, int8: SentenceEncoder) -> dict[str, Any]:
    """150 adapters with ten examples each: the same queries with vectors of either form."""
    train, valid = (_rows(data / f"clinc150_{part}.jsonl") for part in ("train", "valid"))
    examples: dict[str, list[str]] = {}
    for text, intent in train:
        if intent != "oos" and len(examples.setdefault(intent, [])) < CARD_EXAMPLES:
            examples[intent].append(text)
    cards = [
        AdapterCard(name, description=name.replace("_", " "), examples=tuple(texts))
        for name, texts in examples.items()
    ]
    tops: dict[str, list[tuple[str, float, bool]]] = {}
    cosines = []
    for name, encoder in (("torch", exact), ("int8", int8)):
        router = HybridRouter(encoder)
        tops[name] = []
        for text, _ in valid:
            best = (await router.rank(text, candidates=cards))[0]
            right = await router.route(text, candidates=cards)
            tops[name].append((best.adapter, best.confidence, bool(right)))
    for at in range(0, len(valid), 256):
        texts = [text for text, _ in valid[at : at + 256]]
        cosines.append(((await exact.embed(texts)) * (await int8.embed(texts))).sum(axis=1))
    cosine = np.concatenate(cosines)
    inside = [at for at, (_, intent) in enumerate(valid) if intent in examples]
    return {
        "cosine_mean": float(cosine.mean()),
        "cosine_least": float(cosine.min()),
        "queries": len(valid),
        **{
            f"{name}_top1": float(np.mean([top[at][0] == valid[at][1] for at in inside]))
            for name, top in tops.items()
        },
        "same_top1": float(np.mean([a[0] == b[0] for a, b in zip(*tops.values(), strict=True)])),
        "same_decision": float(
            np.mean([a[2] == b[2] for a, b in zip(*tops.values(), strict=True)])
        ),
        "confidence_change_mean": float(
            np.mean([abs(a[1] - b[1]) for a, b in zip(*tops.values(), strict=True)])
        ),
        "confidence_change_signed": float(
            np.mean([b[1] - a[1] for a, b in zip(*tops.values(), strict=True)])
        ),
    }


def _rows(path: Path) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["text"], row["intent"]) for row in rows]


def _query(number: int) -> str:
    return f"{QUERIES[number % len(QUERIES)]} {number}"
