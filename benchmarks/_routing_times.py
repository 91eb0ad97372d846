"""How long a route takes: ours and semantic-router in turn, for the same queries and vectors."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread

from benchmarks import _routing_rival as rival
from benchmarks._routing_scores import Task
from benchmarks._routing_synthetic import scaled
from benchmarks._timing import Times
from intrinsic.card import AdapterCard
from intrinsic.routing import EncoderOptions, SentenceEncoder, make_router
from intrinsic.routing.encoder_options import Runtime
from intrinsic.routing.model_loading import bundled_model
from intrinsic.routing.onnx_model import OnnxModel
from intrinsic.routing.question import Question

SIZES = {100: 400, 150: 400, 1_000: 300, 10_000: 100}
"""Adapters, and how many queries are timed."""

TIMED = (150, 1_000, 10_000)
COMPARED = (100, 1_000, 10_000)
ADDED = 15
AT_ONCE = 32
_WARM_UP = 10

Work = Callable[[str], Coroutine[Any, Any, object]]


async def times(task: Task) -> dict[str, Any]:
    """Routing alone at several sizes, beside semantic-router, and adding one adapter."""
    cards = scaled(task.data, task.known, max(SIZES) + ADDED, seed=0)
    queries = [row.text for row in task.scored]
    random.Random(0).shuffle(queries)
    result: dict[str, Any] = {"route_ms": {}, "vs_semantic_router": {}, "dense_ms": {}}
    shown: dict[str, Any] = {}
    for size, rounds in SIZES.items():
        task.say(f"times at {size} adapters")
        registered = tuple(cards[:size])
        router: Any = make_router("hybrid", task.known)
        await router.warm_up(registered)
        works: dict[str, Work] = {"ours": _routing(router, registered)}
        beside = None
        if task.beside and size in COMPARED:
            beside = rival.build(registered, task.known)
            works["semantic_router"] = beside.acall
        spent = await interleave(works, queries[: rounds + _WARM_UP])
        shown[str(size)] = spent.shown
        if size in TIMED:
            result["route_ms"][str(size)] = 1e3 * spent.median("ours")
            dense_s = await _dense(router, registered, queries[:rounds])
            result["dense_ms"][str(size)] = 1e3 * dense_s
        if beside is not None:
            result["vs_semantic_router"][str(size)] = spent.ratio("semantic_router", "ours")
    task.say(f"adding to {max(SIZES)} adapters")
    result |= await _adding(router, registered, cards[max(SIZES) :])
    if beside is not None:
        result["semantic_router_add_ms"] = await _rival_adding(beside, cards[max(SIZES) :][:3])
    return result | {"times": shown}


async def encoded(task: Task) -> dict[str, Any]:
    """With the encoder: one query beside the encoder alone, and 32 at once; as installed first."""
    first = await _with_encoder(task, "auto")
    result = {name: first[name] for name in ("end_to_end_ms", "batch_gain_32")}
    of_runtime = {first.pop("runtime"): first}
    if "torch" not in of_runtime:
        second = await _with_encoder(task, "torch")
        of_runtime[second.pop("runtime")] = second
    return result | {"encoders": of_runtime}


async def _with_encoder(task: Task, runtime: Runtime) -> dict[str, Any]:
    cards = task.data.registry("intent", 10, 0)
    shown = {text for card in cards for text in card.examples}
    texts = sorted((row.text for row in task.data.train if row.text not in shown), key=len)
    pairs = [texts[at : at + 2] for at in range(0, len(texts) - 1, 2)]  # of nearly one length
    random.Random(0).shuffle(pairs)
    encoder = SentenceEncoder(options=EncoderOptions(runtime=runtime))
    router: Any = make_router("hybrid", encoder)
    await router.warm_up(cards)
    task.say(f"end to end, encoder on {encoder.runtime}")
    alone = await anyio.to_thread.run_sync(_ALONE[encoder.runtime])
    one = {"ours": _routing(router, cards), "encoder_alone": alone}
    spent = await interleave(one, [pair[0] for pair in pairs[: 200 + _WARM_UP]])
    task.say(f"{AT_ONCE} at once")
    batches = await _batches(router, cards, pairs[200 + _WARM_UP :])
    return {
        "runtime": encoder.runtime,
        "end_to_end_ms": 1e3 * spent.median("ours"),
        "over_encoder_alone": spent.ratio("ours", "encoder_alone"),
        "batch_gain_32": batches.ratio("one_by_one", "at_once"),
        "one_query": spent.shown,
        "32_queries": batches.shown,
    }


async def interleave(works: Mapping[str, Work], queries: Sequence[str]) -> Times:
    """Time each work on each query in turn, A B A B; the first queries warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    gc.collect()
    for number, query in enumerate(queries):
        for name, work in works.items():
            started = time.perf_counter()
            await work(query)
            spent = time.perf_counter() - started
            if number >= _WARM_UP:
                seconds[name].append(spent)
    return Times(seconds)


def _routing(router: Any, candidates: tuple[AdapterCard, ...]) -> Work:  # noqa: ANN401
    return lambda query: router.route(query, candidates=candidates)


async def _dense(
    router: Any,  # noqa: ANN401
    candidates: tuple[AdapterCard, ...],
    queries: Sequence[str],
) -> float:
    """The median of what a query's vector costs against the vectors of all rows, in seconds."""
    view = router.index.view(candidates)
    spent = []
    for query in queries:
        dense, vector = await router.meaning.embed(Question.of(query), view)
        started = time.perf_counter()
        dense.weigh(vector)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


async def _adding(
    router: Any,  # noqa: ANN401
    candidates: tuple[AdapterCard, ...],
    newcomers: Sequence[AdapterCard],
) -> dict[str, Any]:
    """The first route with one more adapter, asked for by an example of it, less a later one."""
    first, later, found = [], [], 0
    for number, card in enumerate(newcomers):
        started = time.perf_counter()
        candidates = (*candidates, card)
        chosen = await router.route(card.examples[0], candidates=candidates)
        spent = time.perf_counter() - started
        found += [selection.adapter for selection in chosen] == [card.name]
        started = time.perf_counter()
        await router.route(card.examples[1], candidates=candidates)
        if number:
            first.append(spent)
            later.append(time.perf_counter() - started)
    return {
        "add_ms": 1e3 * (statistics.median(first) - statistics.median(later)),
        "add_p99_ms": 1e3 * (max(first) - statistics.median(later)),
        "added_and_found": found / len(newcomers),
    }


async def _rival_adding(router: Any, newcomers: Sequence[AdapterCard]) -> float:  # noqa: ANN401
    spent = []
    for card in newcomers:
        started = time.perf_counter()
        await router.aadd(rival.route(card))
        spent.append(time.perf_counter() - started)
    return 1e3 * statistics.median(spent)


def _torch_alone() -> Work:
    """The same model in sentence-transformers, called as its own documentation says."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(bundled_model()), device="cpu", local_files_only=True)

    async def encode(text: str) -> object:
        return model.encode([text], show_progress_bar=False, convert_to_numpy=True)

    return encode


def _onnx_alone() -> Work:
    """The int8 session and its tokenizer, called directly."""
    model = OnnxModel(None)

    async def encode(text: str) -> object:
        return model.encode([text], 1)

    return encode


_ALONE = {"torch": _torch_alone, "onnx": _onnx_alone}


async def _batches(
    router: Any,  # noqa: ANN401
    candidates: tuple[AdapterCard, ...],
    pairs: Sequence[Sequence[str]],
    rounds: int = 10,
) -> Times:
    """32 routes one after another and 32 at once, for new texts of the same lengths."""
    route = _routing(router, candidates)
    seconds: dict[str, list[float]] = {"one_by_one": [], "at_once": []}
    for at in range(rounds + 1):
        of_round = pairs[at * AT_ONCE : (at + 1) * AT_ONCE]
        started = time.perf_counter()
        for text, _ in of_round:
            await route(text)
        between = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _, text in of_round:
                group.start_soon(route, text)
        ended = time.perf_counter()
        if at:
            seconds["one_by_one"].append(between - started)
            seconds["at_once"].append(ended - between)
    return Times(seconds)
