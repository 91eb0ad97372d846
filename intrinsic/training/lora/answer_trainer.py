"""The loop's trainer for prompts and responses: the loss on answers alone."""

from __future__ import annotations

import torch
from peft import PeftModel
from torch import Tensor

from intrinsic.training.lora.scores import answer_logits, score
from intrinsic.training.lora.trainer import CourseTrainer
from intrinsic.training.scoring import Encoded, pad_batch


class AnswerTrainer(CourseTrainer):
    """Learns batches of encoded rows."""

    def inputs_of(self, batch: list[Encoded]) -> dict[str, Tensor]:
        """Ids and labels, padded."""
        ids, labels = pad_batch(batch)
        return {"input_ids": ids, "labels": labels}

    def held_out_loss(self) -> float:
        """The mean loss of all held-out answer tokens."""
        course = self.course
        return score(self.model, course.held_out, course.dtype, self.args.device).loss

    def compute_loss(
        self,
        model: PeftModel,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: object = None,
    ) -> Tensor:
        """The mean loss of a batch's answer tokens."""
        logits, targets = answer_logits(
            model, inputs["input_ids"], inputs["labels"], self.course.dtype
        )
        return torch.nn.functional.cross_entropy(logits, targets)
