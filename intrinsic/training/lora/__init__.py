"""LoRA fine-tuning on prompts and responses: what `intrinsic train` does.

The loop is transformers' `Trainer`, which most people know and many keep: it saves optimizer,
schedule and random state, resumes from them, and stops early. Ours are the order of the batches,
the loss on answers alone, and which of its checkpoints are whole. trl's `SFTTrainer` was left: it
asks for another package (`datasets`), cuts rows at the end, where the answer is, and counts batches
in rows, so that its collator, its truncation and its loss would all be replaced.
`train.trained` is the way in. Importing this package imports none of it.
"""
