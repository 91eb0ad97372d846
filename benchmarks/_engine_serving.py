"""What the engine's benchmark times through the backend and the manager."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks._rivals import ROWS, VOCABULARY, Rivals
from benchmarks._timing import interleave
from intrinsic.backends import GenerationOptions
from intrinsic.backends.transformers_backend import TransformersBackend
from intrinsic.engine import LoraEngine
from intrinsic.lora import read_checkpoint
from intrinsic.manager import AdapterManager, ManagerOptions
from intrinsic.mixture import Mixture
from intrinsic.registry import AdapterRegistry
from tests.tiny import llama, write_adapter

REQUESTS = 16
NEW_TOKENS = 64
KNOWN = (2, 1000)
LOADED = (2, 200)


def concurrent(rivals: Rivals, rounds: int) -> dict[str, Any]:
    """16 requests under 16 mixtures of two adapters: one after another, and all at once."""
    rivals.engine.close()
    rivals.ours.generation_config.eos_token_id = None
    with torch.inference_mode(False):
        backend = TransformersBackend(rivals.ours, _tokenizer())
    for number in range(ROWS):
        anyio.run(backend.load_lora_adapter, str(rivals.folder / f"a{number}"), f"a{number}")
    texts: dict[str, dict[int, str]] = {"serial": {}, "batched": {}}
    times = interleave(
        {
            "serial": lambda: anyio.run(_one_by_one, backend, texts["serial"]),
            "batched": lambda: anyio.run(_together, backend, texts["batched"]),
        },
        max(1, rounds // 3),
        warm_up=False,
    )
    same = sum(texts["serial"][n] == texts["batched"][n] for n in range(REQUESTS))
    return times.shown | {
        "concurrent_vs_serial": times.ratio("serial", "batched"),
        "concurrent_identical": same,
    }


def load_flat(folder: Path, rounds: int) -> dict[str, Any]:
    """Loading one adapter where 1,000 are known, and where 200 are loaded, over where 2 are.

    On a small model, where what does not depend on the adapter's size shows most.
    """
    model = llama()
    paths = [write_adapter(folder / f"s{n}", model, seed=n) for n in range(max(LOADED) + 1)]
    managers = {known: _manager_of(model, paths[0], known) for known in KNOWN}
    engines = {loaded: _engine_of(paths[:loaded]) for loaded in LOADED}

    async def load_and_unload(manager: AdapterManager) -> None:
        await manager.load("a0")
        await manager.unload("a0")

    def load(engine: LoraEngine) -> None:
        engine.load(read_checkpoint(paths[-1]), "more")
        engine.unload("more")

    works = {f"load_known_{n}": _run(load_and_unload, m) for n, m in managers.items()}
    works |= {f"load_loaded_{n}": _call(load, e) for n, e in engines.items()}
    times = interleave(works, rounds * 10)
    return times.shown | {
        "load_flat": times.ratio(f"load_known_{KNOWN[1]}", f"load_known_{KNOWN[0]}"),
        "load_flat_loaded": times.ratio(f"load_loaded_{LOADED[1]}", f"load_loaded_{LOADED[0]}"),
    }


def _run(work: Any, manager: AdapterManager) -> Any:  # noqa: ANN401
    return lambda: anyio.run(work, manager)


def _call(work: Any, engine: LoraEngine) -> Any:  # noqa: ANN401
    return lambda: work(engine)


def _manager_of(model: torch.nn.Module, path: Path, known: int) -> AdapterManager:
    registry = AdapterRegistry(max_loaded=3)
    for number in range(known):
        registry.register_adapter(path, name=f"a{number}")
    options = ManagerOptions(max_host_bytes=0)
    return AdapterManager(TransformersBackend(model, _tokenizer()), registry, options=options)


def _engine_of(paths: Iterable[Path]) -> LoraEngine:
    engine = LoraEngine(llama())
    for path in paths:
        engine.load(read_checkpoint(path), path.name)
    return engine


def _tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{number}": number for number in range(VOCABULARY)}
    core = Tokenizer(models.WordLevel(words, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core)


async def _ask(backend: TransformersBackend, number: int, texts: dict[int, str]) -> None:
    first, second = number % ROWS, (number + 1 + number // ROWS) % ROWS
    mixture = Mixture.of({f"a{first}": 0.6 + number / 100, f"a{second}": 0.3})
    prompt = " ".join(f"w{100 * number + word}" for word in range(16 + number))
    generation = await backend.generate(
        prompt, mixture=mixture, options=GenerationOptions(max_new_tokens=NEW_TOKENS)
    )
    assert generation.tokens == NEW_TOKENS
    texts[number] = generation.text


async def _one_by_one(backend: TransformersBackend, texts: dict[int, str]) -> None:
    for number in range(REQUESTS):
        await _ask(backend, number, texts)


async def _together(backend: TransformersBackend, texts: dict[int, str]) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(REQUESTS):
            tasks.start_soon(_ask, backend, number, texts)
