"""The way in: from an encoder and a file of pairs or labelled texts to an adapter on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intrinsic.training.embedding.plan import EmbeddingPlan
from intrinsic.training.lora.job import TrainingJob
from intrinsic.training.lora.progress import Progress
from intrinsic.training.lora.train import PACKAGES, need_packages

if TYPE_CHECKING:
    from intrinsic.training.embedding.scores import EmbeddingScores
    from intrinsic.training.lora.result import TrainedAdapter


def trained_embedding(
    job: TrainingJob, plan: EmbeddingPlan | None = None, progress: Progress | None = None
) -> TrainedAdapter[EmbeddingScores]:
    """Train an encoder's adapter, score it against the encoder on held-out rows, write its folder.

    `job.base` is a folder, a hub name in the cache, or the bundled `all-MiniLM-L6-v2`. Promises and
    raises what `intrinsic.training.lora.train.trained` does, and `EncoderError` for an encoder that
    cannot be loaded. The adapter's layers are those of the transformer inside the encoder.
    """
    need_packages((*PACKAGES, "datasets"))
    from intrinsic.training.embedding.preparing import prepare
    from intrinsic.training.lora.running import run

    return run(job, plan or EmbeddingPlan(), progress or Progress(), prepare, _ways)


def _ways(plan: EmbeddingPlan) -> str:
    length = f" (now {plan.max_length})" if plan.max_length else ""
    more = "" if plan.gradient_checkpointing else ", or give --gradient-checkpointing"
    return f"--batch-pairs (now {plan.batch_pairs}), --max-length{length}{more}"
