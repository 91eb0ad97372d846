"""The loop's trainer for pairs of texts: sentence-transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import Tensor

from intrinsic.lora.checkpoint import WEIGHTS_NAME
from intrinsic.training.embedding.pairs import Pair
from intrinsic.training.embedding.scores import Contrast
from intrinsic.training.lora.trainer import Course, CourseTrainer, Telling
from intrinsic.training.precision import autocast


class PairTrainer(CourseTrainer, SentenceTransformerTrainer):  # type: ignore[misc]
    """Learns batches of pairs; its checkpoints hold the adapter, not the encoder."""

    arguments = SentenceTransformerTrainingArguments

    def __init__(self, course: Course, telling: Telling, contrast: Contrast) -> None:
        self._contrast = contrast
        super().__init__(course, telling, model=contrast.model, loss=contrast.loss)

    def inputs_of(self, batch: list[Pair]) -> dict[str, Any]:
        """The columns of a batch, as `collect_features` hands them to the loss."""
        return {"columns": self._contrast.columns(batch)}

    def collect_features(
        self, inputs: dict[str, list[dict[str, Tensor]]]
    ) -> tuple[list[dict[str, Tensor]], None]:
        """The columns, and no labels: the pairs say what belongs together."""
        return inputs["columns"], None

    def compute_loss(self, *inputs: Any, **more: Any) -> Any:  # noqa: ANN401
        """The loss of a batch of pairs."""
        with autocast(self.course.dtype, self.args.device.type):
            return super().compute_loss(*inputs, **more)

    def held_out_loss(self) -> float:
        """The mean loss of the held-out pairs."""
        return self._contrast.held_out(self.course.held_out)

    def preprocess_dataset(self, dataset: object = None, dataset_name: object = None) -> object:
        """Batches stay as they are; sentence-transformers would look for columns."""
        return dataset

    def add_model_card_callback(self, *_: object, **__: object) -> None:
        """The adapter gets a card of its own."""

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in get_peft_model_state_dict(self.course.model).items()
        }
        safetensors.torch.save_file(tensors, folder / WEIGHTS_NAME)

    def _load_from_checkpoint(self, checkpoint_path: str, *_: object) -> None:
        weights = load_file(Path(checkpoint_path) / WEIGHTS_NAME)
        set_peft_model_state_dict(self.course.model, weights)
