"""Adapters of text encoders, from pairs or labelled texts: `intrinsic train --kind embedding`.

The loop is sentence-transformers' trainer with its loss of in-batch negatives; rows, checkpoints,
writing and registering are those of `intrinsic.training.lora`. `train.trained_embedding` is the way
in. Importing this package imports none of it.
"""
