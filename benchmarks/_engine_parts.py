"""What the engine's benchmark times on loaded models, one function a part."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks._rivals import ROWS, Rivals, forward_pass, under, within
from benchmarks._timing import interleave
from intrinsic.lora import read_checkpoint
from intrinsic.mixture import Mixture

SWITCHES = 100
ROW_TOKENS = 32


def switch(rivals: Rivals, rounds: int) -> dict[str, Any]:
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

    times = interleave({"switch_peft": peft, f"switch_{SWITCHES}": ours}, rounds, after=clean)
    ratio = SWITCHES * times.ratio("switch_peft", f"switch_{SWITCHES}")
    return times.shown | {"switch_vs_peft": ratio}


def load(rivals: Rivals, rounds: int) -> dict[str, Any]:
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
    times = interleave({"load_peft": peft, "load": ours, "read": read}, rounds, after=clean)
    return times.shown | {
        "load_vs_peft": times.ratio("load_peft", "load"),
        "load_vs_read": times.ratio("load", "read"),
    }


def merge(rivals: Rivals, rounds: int) -> dict[str, Any]:
    """From one merged two-adapter mixture to the next.

    `copy_weights_ms` copies the layers' weights once, as any way of writing them must at least.
    """
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

    weights = [p for name, p in rivals.bare.named_parameters() if "proj.weight" in name]
    copies = [torch.empty_like(weight) for weight in weights]

    def copy_weights() -> None:
        for copied, weight in zip(copies, weights, strict=True):
            copied.copy_(weight)

    times = interleave(
        {"merged_switch_peft": peft, "merged_switch": ours, "copy_weights": copy_weights}, rounds
    )
    started = time.perf_counter()
    rivals.engine.restore()
    restored = {"restore_ms": 1e3 * (time.perf_counter() - started)}
    rivals.peft.unmerge_adapter()
    for name in [name for name in rivals.peft.peft_config if name.startswith("mix")]:
        rivals.peft.delete_adapter(name)
    ratio = times.ratio("merged_switch_peft", "merged_switch")
    return times.shown | restored | {"merged_switch_vs_peft": ratio}


def overhead(rivals: Rivals, rounds: int) -> dict[str, Any]:
    """256 tokens, and one token after 256, with two adapters mixed, over the bare model.

    The mixture is held, as while a text is generated, and as PEFT's stays set; `switched` is with
    an activation of its own for the one pass.
    `read_two_adapters_ms` is what reading these factors from memory takes by itself: no side-car
    can add less to the pass of one token.
    """
    rivals.peft.base_model.set_adapter(["a0", "a1"])
    mixture = Mixture.of({"a0": 0.7, "a1": 0.3})
    figures: dict[str, Any] = {}
    gains: list[float] = []
    for name, tokens in (("prefill", 256), ("decode", 1)):
        bare, peft, ours = (
            forward_pass(m, 1, tokens) for m in (rivals.bare, rivals.peft, rivals.ours)
        )
        with rivals.engine.hold(mixture) as held:
            works = {
                f"{name}_bare": bare,
                f"{name}_peft": peft,
                f"{name}_ours": within(held, ours),
                f"{name}_switched": under(rivals.engine, mixture, ours),
            }
            times = interleave(works, rounds * (1 if tokens > 1 else 5))
        base, theirs, own = (times.median(f"{name}_{who}") for who in ("bare", "peft", "ours"))
        gains.append((theirs - base) / max(own - base, 1e-9))
        figures |= times.shown | {
            f"overhead_k2_{name}": own / base,
            f"overhead_k2_{name}_switched": times.ratio(f"{name}_switched", f"{name}_bare"),
            f"overhead_vs_peft_{name}": gains[-1],
        }
    factors = [
        tensor
        for adapter in ("a0", "a1")
        for found in read_checkpoint(rivals.folder / adapter).factors.values()
        for tensor in (found.A.to(rivals.bare.dtype), found.B.to(rivals.bare.dtype))
    ]
    read = interleave({"read_two_adapters": lambda: [t.sum() for t in factors]}, rounds)
    return figures | read.shown | {"overhead_vs_peft": min(gains)}


def mixed_batch(rivals: Rivals, rounds: int) -> dict[str, Any]:
    """Eight rows, eight adapters; ours also with eight different pairs of adapters.

    `mixed_batch_limit` is the ratio at which ours would take no longer than the bare model.
    """
    names = [f"a{number}" for number in range(ROWS)]
    singles = [Mixture.of({name: 1.0}) for name in names]
    pairs = [Mixture.of({name: 0.7, names[(at + 1) % ROWS]: 0.3}) for at, name in enumerate(names)]
    figures: dict[str, Any] = {}
    for name, tokens in (("prefill", ROW_TOKENS), ("decode", 1)):
        theirs, own = (
            forward_pass(rivals.peft, ROWS, tokens),
            forward_pass(rivals.ours, ROWS, tokens),
        )
        hold = rivals.engine.hold
        with hold(singles) as held_singles, hold(pairs) as held_pairs:
            works: dict[str, Callable[[], object]] = {
                f"batch_{name}_bare": forward_pass(rivals.bare, ROWS, tokens),
                f"batch_{name}_peft": partial(theirs, adapter_names=names),
                f"batch_{name}_ours": within(held_singles, own),
                f"batch_{name}_pairs": within(held_pairs, own),
            }
            times = interleave(works, rounds * (1 if tokens > 1 else 3))
        figures |= times.shown | {
            f"mixed_batch_vs_peft_{name}": times.ratio(f"batch_{name}_peft", f"batch_{name}_ours"),
            f"mixed_pairs_vs_peft_{name}": times.ratio(f"batch_{name}_peft", f"batch_{name}_pairs"),
            f"mixed_batch_limit_{name}": times.ratio(f"batch_{name}_peft", f"batch_{name}_bare"),
        }
    return figures | {
        "mixed_batch_vs_peft": min(
            figures[f"mixed_{which}_vs_peft_{name}"]
            for which in ("batch", "pairs")
            for name in ("prefill", "decode")
        )
    }
