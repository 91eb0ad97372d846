"""The engine beside PEFT: one process, the same weights and adapters, A B A B.

    python -m benchmarks engine --json

A model of the shape of Qwen2-0.5B (hidden 896, 24 layers, intermediate 4864, 14 heads over 2, own
vocabulary of 32,000) with random weights; adapters of rank 16 on all seven projections, random.
Each figure is a ratio of medians over interleaved rounds; the times in milliseconds stand beside
it, median and 99th percentile, per dtype. A side-car pass is timed with the activation that it
needs, so that what is put off until the first pass is in the figure too.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from intrinsic.engine import LoraEngine
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import Mixture
from tests.tiny import llama, write_adapter

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK = 16
ROWS = 8
SWITCHES = 100
ROW_TOKENS = 32
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class _Rivals:
    """The same weights and adapters `a0` to `a7`, under PEFT and under ours."""

    folder: Path
    bare: Any
    peft: Any
    ours: Any
    engine: LoraEngine


def run(argv: Sequence[str]) -> dict[str, Any]:
    """Measure every figure in each dtype."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks engine")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--swaps", type=int, default=10_000)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    result: dict[str, Any] = {"rounds": options.rounds, "threads": options.threads}
    for name in options.dtypes:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            _say(f"{name}: building")
            rivals = _build(Path(folder), DTYPES[name], options.layers)
            result[name] = _figures(rivals, options.rounds)
    result["bit_exact_after"] = _bit_exact(options.swaps)
    return result


def _build(folder: Path, dtype: torch.dtype, layers: int) -> _Rivals:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=32_000, hidden_size=896, intermediate_size=4864, num_hidden_layers=layers,
        num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=2048,
        tie_word_embeddings=True,
    )  # fmt: skip
    bare = Qwen2ForCausalLM(config).to(dtype).eval()
    for number in range(ROWS + 1):
        write_adapter(folder / f"a{number}", bare, targets=TARGETS, r=RANK, alpha=RANK, seed=number)
    peft = PeftModel.from_pretrained(copy.deepcopy(bare), str(folder / "a0"), adapter_name="a0")
    ours = copy.deepcopy(bare)
    engine = LoraEngine(ours)
    engine.load(read_checkpoint(folder / "a0"), "a0")
    for number in range(1, ROWS):
        peft.load_adapter(str(folder / f"a{number}"), adapter_name=f"a{number}")
        engine.load(read_checkpoint(folder / f"a{number}"), f"a{number}")
    return _Rivals(folder, bare, peft.eval(), ours, engine)


def _figures(rivals: _Rivals, rounds: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for part in (_switch, _load, _merge, _overhead, _mixed_batch):
        _say(f"  {part.__name__.removeprefix('_')}")
        figures |= part(rivals, rounds)
    return figures


def _switch(rivals: _Rivals, rounds: int) -> dict[str, Any]:
    """A mixture that was never seen before, on adapters that are loaded."""
    number = iter(range(10**6))

    def peft() -> None:
        name = f"mix{next(number)}"
        weight = 0.5 + next(number) / 10**6
        rivals.peft.add_weighted_adapter(["a0", "a1"], [weight, 0.3], name, combination_type="cat")
        rivals.peft.set_adapter(name)

    def ours() -> None:
        for _ in range(SWITCHES):
            weight = 0.5 + next(number) / 10**6
            with rivals.engine.activate(Mixture.of({"a0": weight, "a1": 0.3})):
                pass

    def clean() -> None:
        for name in [name for name in rivals.peft.peft_config if name.startswith("mix")]:
            rivals.peft.delete_adapter(name)

    times = _interleave({"switch_peft": peft, f"switch_{SWITCHES}": ours}, rounds, after=clean)
    ratio = SWITCHES * times.ratio("switch_peft", f"switch_{SWITCHES}")
    return times.shown | {"switch_vs_peft": ratio}


def _load(rivals: _Rivals, rounds: int) -> dict[str, Any]:
    """One more adapter from disk, beside reading its bytes and nothing else."""
    path = rivals.folder / f"a{ROWS}"

    def peft() -> None:
        rivals.peft.load_adapter(str(path), adapter_name="more")

    def ours() -> None:
        rivals.engine.load(read_checkpoint(path), "more")

    def read() -> None:
        (path / "adapter_model.safetensors").read_bytes()

    def clean() -> None:
        if "more" in rivals.peft.peft_config:
            rivals.peft.delete_adapter("more")
        if any(adapter.id == "more" for adapter in rivals.engine.loaded):
            rivals.engine.unload("more")

    clean()
    times = _interleave({"load_peft": peft, "load": ours, "read": read}, rounds, after=clean)
    return times.shown | {
        "load_vs_peft": times.ratio("load_peft", "load"),
        "load_vs_read": times.ratio("load", "read"),
    }


def _merge(rivals: _Rivals, rounds: int) -> dict[str, Any]:
    """From one merged two-adapter mixture to the next."""
    number = iter(range(10**6))

    def peft() -> None:
        rivals.peft.unmerge_adapter()
        name = f"mix{next(number)}"
        rivals.peft.add_weighted_adapter(["a0", "a1"], [0.7, 0.3], name, combination_type="cat")
        rivals.peft.set_adapter(name)
        rivals.peft.merge_adapter()

    def ours() -> None:
        weight = 0.5 + next(number) / 10**6
        rivals.engine.merge(Mixture.of({"a0": weight, "a1": 0.3}))

    times = _interleave({"merged_switch_peft": peft, "merged_switch": ours}, rounds)
    started = time.perf_counter()
    rivals.engine.restore()
    restored = {"restore_ms": 1e3 * (time.perf_counter() - started)}
    rivals.peft.unmerge_adapter()
    for name in [name for name in rivals.peft.peft_config if name.startswith("mix")]:
        rivals.peft.delete_adapter(name)
    return (
        times.shown
        | restored
        | {"merged_switch_vs_peft": times.ratio("merged_switch_peft", "merged_switch")}
    )


def _overhead(rivals: _Rivals, rounds: int) -> dict[str, Any]:
    """256 tokens, and one token after 256, with two adapters mixed, over the bare model."""
    rivals.peft.base_model.set_adapter(["a0", "a1"])
    mixture = Mixture.of({"a0": 0.7, "a1": 0.3})
    figures: dict[str, Any] = {}
    for name, tokens in (("prefill", 256), ("decode", 1)):
        passes = {
            which: _pass(model, 1, tokens) for which, model in
            {"bare": rivals.bare, "peft": rivals.peft, "ours": rivals.ours}.items()
        }  # fmt: skip
        times = _interleave(
            {
                f"{name}_bare": passes["bare"],
                f"{name}_peft": passes["peft"],
                f"{name}_ours": _under(rivals.engine, mixture, passes["ours"]),
            },
            rounds * (1 if tokens > 1 else 5),
        )
        bare, peft, ours = (times.median(f"{name}_{which}") for which in ("bare", "peft", "ours"))
        figures |= times.shown | {
            f"overhead_k2_{name}": ours / bare,
            f"overhead_vs_peft_{name}": (peft - bare) / max(ours - bare, 1e-9),
        }
    return figures


def _mixed_batch(rivals: _Rivals, rounds: int) -> dict[str, Any]:
    """Eight rows, eight adapters; ours also with eight different pairs of adapters."""
    names = [f"a{number}" for number in range(ROWS)]
    singles = [Mixture.of({name: 1.0}) for name in names]
    pairs = [Mixture.of({name: 0.7, names[(at + 1) % ROWS]: 0.3}) for at, name in enumerate(names)]
    figures: dict[str, Any] = {}
    for name, tokens in (("prefill", ROW_TOKENS), ("decode", 1)):
        theirs, own = _pass(rivals.peft, ROWS, tokens), _pass(rivals.ours, ROWS, tokens)
        times = _interleave(
            {
                f"batch_{name}_bare": _pass(rivals.bare, ROWS, tokens),
                f"batch_{name}_peft": partial(theirs, adapter_names=names),
                f"batch_{name}_ours": _under(rivals.engine, singles, own),
                f"batch_{name}_pairs": _under(rivals.engine, pairs, own),
            },
            rounds * (1 if tokens > 1 else 3),
        )
        figures |= times.shown | {
            f"mixed_batch_vs_peft_{name}": times.ratio(f"batch_{name}_peft", f"batch_{name}_ours"),
            f"mixed_pairs_vs_peft_{name}": times.ratio(f"batch_{name}_peft", f"batch_{name}_pairs"),
        }
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


def _pass(model: nn.Module, rows: int, tokens: int) -> Callable[..., None]:
    """A forward pass of new ids; for one token, on top of a cache of 256 that is cut again."""
    generator = torch.Generator().manual_seed(rows * 1000 + tokens)
    ids = torch.randint(0, 32_000, (rows, tokens), generator=generator)
    if tokens > 1:
        return lambda **kwargs: model(input_ids=ids, logits_to_keep=1, **kwargs)
    known = torch.randint(0, 32_000, (rows, 256), generator=generator)
    cache = model(input_ids=known, use_cache=True, logits_to_keep=1).past_key_values

    def decode(**kwargs: object) -> None:
        model(input_ids=ids, past_key_values=cache, use_cache=True, **kwargs)
        cache.crop(-tokens)

    return decode


def _under(
    engine: LoraEngine, mixtures: Mixture | Sequence[Mixture], work: Callable[[], None]
) -> Callable[[], None]:
    def activated() -> None:
        with engine.activate(mixtures):
            work()

    return activated


class _Times:
    """Seconds per name and round."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        self._seconds = seconds

    def median(self, name: str) -> float:
        return statistics.median(self._seconds[name])

    def ratio(self, over: str, under: str) -> float:
        return self.median(over) / self.median(under)

    @property
    def shown(self) -> dict[str, Any]:
        """Median and 99th percentile in milliseconds."""
        return {
            f"{name}_ms": {"p50": 1e3 * self.median(name), "p99": 1e3 * _p99(found)}
            for name, found in self._seconds.items()
        }


def _p99(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def _interleave(
    works: Mapping[str, Callable[[], object]],
    rounds: int,
    after: Callable[[], None] = lambda: None,
) -> _Times:
    """Time each in turn, round after round; the first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            spent = time.perf_counter() - started
            if round_:
                seconds[name].append(spent)
            after()
    return _Times(seconds)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
