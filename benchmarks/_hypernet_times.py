"""What generated weights cost, and whether PEFT sees the same in what is exported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from benchmarks._hypernet_base import encode
from benchmarks._hypernet_setting import ALPHA, RANK, SCORED, Setting
from benchmarks._timing import interleave
from intrinsic.engine import LoraEngine
from intrinsic.hypernet.base_norms import base_norms
from intrinsic.hypernet.estimate import estimate
from intrinsic.hypernet.generated import as_checkpoint, export
from intrinsic.hypernet.generator import WeightGenerator
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.targets import TargetShape
from intrinsic.mixture import Mixture

BATCH = 16
ANSWER = 12
"""The most tokens that an answer has, with its end."""


def times(setting: Setting, architecture: str, rounds: int) -> dict[str, Any]:
    """Generation for the small model, a batch of 16 tasks, and the export."""
    network = _filled(setting.network(architecture, 0))
    generator = WeightGenerator(network, base_norms(setting.model, network.targets))
    tasks = setting.split.unseen_pair[:BATCH]
    vectors = setting.encoder.encode([task.descriptions(1, SCORED)[0] for task in tasks])
    one = torch.from_numpy(vectors[0])
    with torch.inference_mode():
        network.eval()
        found = interleave(
            {"generate": lambda: generator.generate(one), "forward": lambda: network(one)},
            20 * rounds,
        )
    figures = {"generate_ms": 1e3 * found.median("generate"), "times": found.shown}
    figures["forward_ms"] = 1e3 * found.median("forward")
    rows = [row for task in tasks for row in task.rows(1, SCORED)]
    engine = LoraEngine(setting.model)
    try:
        figures |= _batch(setting, engine, generator, vectors, rows, rounds)
        figures["export_max_diff"] = _export(setting, engine, generator, one)
    finally:
        engine.close()
    return figures


def _batch(
    setting: Setting,
    engine: LoraEngine,
    generator: WeightGenerator,
    vectors: Any,  # noqa: ANN401
    rows: list[tuple[str, str]],
    rounds: int,
) -> dict[str, Any]:
    """16 answers at a time, each of a task of its own, over the same 16 by the bare model."""
    names = [f"task{at}" for at in range(BATCH)]

    def load() -> None:
        for name, generated in zip(names, generator.generate_batch(vectors), strict=True):
            engine.load(as_checkpoint(generated), name)

    def unload() -> None:
        for adapter in list(engine.loaded):
            engine.unload(adapter.id)

    asked = setting.words([prompt for prompt, _ in rows], return_tensors="pt")
    whole = torch.tensor([one.ids[:14] for one in encode(setting.words, rows)])
    each = [Mixture.of({name: 1.0}) for name in names]

    def answer() -> None:
        # As many tokens either way, whatever is written.
        setting.model.generate(
            **asked,
            max_new_tokens=ANSWER,
            min_new_tokens=ANSWER,
            do_sample=False,
            use_cache=True,
        )

    def read() -> None:
        setting.model(input_ids=whole)

    def under(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            with engine.activate(each):
                work()

        return run

    def fresh() -> None:
        unload()
        load()
        under(answer)()

    load()
    works = {"answers_bare": answer, "answers": under(answer), "read_bare": read}
    with torch.inference_mode():
        found = interleave(works | {"read": under(read), "answers_generated": fresh}, 3 * rounds)
    unload()
    return {
        "mixed_batch_ratio": found.ratio("answers", "answers_bare"),
        "mixed_batch_generated_ratio": found.ratio("answers_generated", "answers_bare"),
        "mixed_read_ratio": found.ratio("read", "read_bare"),
        "batch_times": found.shown,
    }


def _export(
    setting: Setting, engine: LoraEngine, generator: WeightGenerator, vector: torch.Tensor
) -> float:
    """Largest difference of the logits between the engine, and PEFT with the exported folder."""
    generated = generator.generate(vector)
    rows = [row for task in setting.split.unseen_pair[:8] for row in task.rows(2, SCORED)]
    ids = torch.tensor([one.ids[:14] for one in encode(setting.words, rows)])
    engine.load(as_checkpoint(generated), "one")
    with torch.inference_mode(), engine.activate(Mixture.of({"one": 1.0})):
        ours = setting.model(input_ids=ids).logits
    engine.unload("one")
    with tempfile.TemporaryDirectory() as folder:
        export(generated, Path(folder) / "made")
        base = Setting(setting.split, setting.cache, setting.sizes).model
        theirs = PeftModel.from_pretrained(base, str(Path(folder) / "made")).eval()
        with torch.inference_mode():
            return float((theirs(input_ids=ids).logits - ours).abs().max())


def half_b(architecture: str, rounds: int) -> dict[str, Any]:
    """The shape of Qwen2-0.5B, all seven projections, rank 8, embeddings of 384 numbers."""
    targets = qwen2_half_b()
    with torch.inference_mode(False):
        network = _filled(HyperNetwork(targets, 384, RANK, ALPHA, architecture=architecture))
    generator = WeightGenerator(network, torch.ones(len(targets)))
    vector = torch.randn(384, generator=torch.Generator().manual_seed(0))
    found = interleave({"generate": lambda: generator.generate(vector)}, 5 * rounds)
    known = estimate(targets, 384, RANK, architecture)
    return {
        "half_b": {
            "generate_ms": 1e3 * found.median("generate"),
            "parameters": known.parameters,
            "payload_bytes": known.payload_bytes,
            "multiply_adds": known.multiply_adds,
        }
    }


def qwen2_half_b() -> list[TargetShape]:
    """The matrices of Qwen2-0.5B: 24 layers, 14 heads of 64 over 2."""
    width, keys, inner = 896, 128, 4864
    shapes = {
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (width, keys),
        "self_attn.v_proj": (width, keys),
        "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (width, inner),
        "mlp.up_proj": (width, inner),
        "mlp.down_proj": (inner, width),
    }
    return [
        TargetShape(f"model.layers.{layer}.{name}", into, out)
        for layer in range(24)
        for name, (into, out) in shapes.items()
    ]


def _filled(network: HyperNetwork) -> HyperNetwork:
    """The same network with something where it starts at zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return network
