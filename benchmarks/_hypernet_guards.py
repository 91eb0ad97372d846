"""What keeps generated weights off queries that they are not for: the gate, and one example."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks._hypernet_base import encode
from benchmarks._hypernet_setting import LEARNED, SCORED, Setting
from benchmarks._hypernet_tasks import Composed
from benchmarks._hypernet_words import NONSENSE
from intrinsic.engine import LoraEngine
from intrinsic.hypernet.apply import applied
from intrinsic.hypernet.base_norms import base_norms
from intrinsic.hypernet.calibration import Calibration
from intrinsic.hypernet.check import SHARE, check_on_model
from intrinsic.hypernet.gate import Gate
from intrinsic.hypernet.gating import gate_of
from intrinsic.hypernet.generated import as_checkpoint
from intrinsic.hypernet.generator import WeightGenerator
from intrinsic.hypernet.least_share import least_share
from intrinsic.hypernet.losses import divergence
from intrinsic.hypernet.network import HyperNetwork
from intrinsic.hypernet.nonsense import nonsense_queries
from intrinsic.hypernet.scores import generated_for
from intrinsic.hypernet.tasks import Task
from intrinsic.mixture import BASE, Mixture
from intrinsic.training.scoring import pad_batch

UNRELATED = (*NONSENSE[::2], *nonsense_queries(64, seed=2))
"""Queries to judge the gate by."""
CALIBRATION = (*NONSENSE[1::2], *nonsense_queries(256, seed=1))
"""Queries to set its threshold by."""
COMMON, MIXED = 16, 256
"""Nonsense is mixed with so many of the commonest words of descriptions, in so many queries."""
EXAMPLES = 4
KEPT = 16
"""About so many descriptions of each task are the gate's."""


def guards(setting: Setting, network: HyperNetwork) -> dict[str, Any]:
    """The gate on unrelated and on good queries, and the check on an unknown operation."""
    gate, calibration = _gate(setting)
    good = [
        text
        for part in ("unseen_pair", "unseen_pair_new_wording", "new_skill")
        for one in setting.parts[part]
        for text in one.task.descriptions
    ]
    refused = [not gate.admits(vector).admitted for vector in setting.encoder.encode(good)]
    share = least_share(setting.model, network, setting.parts["validation"]) or SHARE
    accepted = _accepted(setting, network, setting.split.unknown, EXAMPLES, share)
    passed = {
        new: _accepted(setting, network, setting.split.unseen_pair, EXAMPLES, share, new=new)
        for new in (False, True)
    }
    return {
        "gate": {
            "threshold": calibration.threshold,
            "probe_threshold": calibration.probe.threshold,
            "auroc": calibration.auroc,
            "identical": _identical(setting, network, gate),
            "unrelated": len(UNRELATED),
            "refused_good": 100 * sum(refused) / len(refused),
            "good": len(good),
            "ungated_kl": _harm(setting, network),
        },
        "check": {
            "false_accepts": sum(accepted),
            "unknown": len(accepted),
            "share": share,
            "refused_good": 100 * (1 - sum(passed[False]) / len(passed[False])),
            "refused_new_wording": 100 * (1 - sum(passed[True]) / len(passed[True])),
            "good": len(passed[False]),
        },
    }


def _gate(setting: Setting) -> tuple[Gate, Calibration]:
    tasks = []
    for task in setting.learned:
        every = max(1, len(task.descriptions) // KEPT)
        tasks.append(replace(task, descriptions=task.descriptions[::every]))
    return gate_of(setting.encoder, tasks, (*CALIBRATION, *_half_known(tasks)))


def _half_known(tasks: Sequence[Task]) -> list[str]:
    """Nonsense with words that many descriptions have, as "a letter to the" landlord."""
    said = Counter(
        word.strip(",;:")
        for task in tasks
        for text in task.descriptions
        for word in dict.fromkeys(text.split())
    )
    common = [word for word, _ in said.most_common(COMMON)]
    source = random.Random(0)
    found = []
    for text in source.choices(CALIBRATION, k=MIXED):
        foreign = text.split()
        own = source.sample(foreign, min(len(foreign), source.randint(2, 4)))
        own += source.sample(common, source.randint(2, 4))
        source.shuffle(own)
        found.append(" ".join(own))
    return found


def _identical(setting: Setting, network: HyperNetwork, gate: Gate) -> float:
    """Share of unrelated queries that are answered bit for bit as by the bare model.

    The engine is on the model with another query's weights loaded, and a query that the gate
    admits runs under its own.
    """
    ids, _ = _some_rows(setting)
    model = setting.model
    with torch.inference_mode():
        bare = model(input_ids=ids).logits
    generator = WeightGenerator(network, base_norms(model, network.targets))
    engine = LoraEngine(model)
    known = setting.encoder.encode(setting.learned[0].descriptions[:1])[0]
    same = 0
    try:
        engine.load(as_checkpoint(generator.generate(known)), "known")
        for vector in setting.encoder.encode(UNRELATED):
            mixture = BASE
            if gate.admits(vector).admitted:
                engine.load(as_checkpoint(generator.generate(vector)), "own")
                mixture = Mixture.of({"own": 1.0})
            with torch.inference_mode(), engine.activate(mixture):
                same += torch.equal(model(input_ids=ids).logits, bare)
            if mixture:
                engine.unload("own")
    finally:
        engine.close()
    return same / len(UNRELATED)


@torch.no_grad()
def _harm(setting: Setting, network: HyperNetwork) -> float:
    """`KL(bare ‖ adapted)` in nats per token that unrelated queries do where nothing refuses."""
    ids, labels = _some_rows(setting)
    bare = setting.model(input_ids=ids).logits[labels != -100]
    found = []
    for vector in torch.from_numpy(setting.encoder.encode(UNRELATED[:32])):
        with generated_for(setting.model, network, vector[None]):
            adapted = setting.model(input_ids=ids).logits[labels != -100]
        found.append(float(divergence(adapted, bare)))
    return sum(found) / len(found)


def _some_rows(setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [row for task in setting.split.trained[::12] for row in task.rows(1, SCORED)]
    return pad_batch(encode(setting.words, rows))


@torch.no_grad()
def _accepted(
    setting: Setting,
    network: HyperNetwork,
    tasks: Sequence[Composed],
    examples: int,
    share: float,
    *,
    new: bool = False,
) -> list[bool]:
    """Whether the check on one example lets the weights through, per task and example."""
    names = [target.name for target in network.targets]
    found = []
    for task in tasks:
        vector = setting.encoder.encode(task.descriptions(1, SCORED, new=new))
        pairs = network.expand(network.payload(vector))

        def weights(pairs: Any = pairs) -> Any:  # noqa: ANN401
            return applied(setting.model, names, pairs, network.scale)

        for row in encode(setting.words, task.rows(examples, LEARNED)):
            ids, labels = pad_batch([row])
            check = check_on_model(setting.model, ids, labels, weights, share=share)
            found.append(check.passed)
    return found
