"""Scripts that train and judge the bundled model: `python -m intrinsic.training --help`.

`corpus` and `stdlib` choose the texts, `tokenizer` and `pretrain` make the base,
`bundled_adapters` says how `intrinsic train` makes the adapters, `evaluate` the figures, `cards`
the files that describe the result. Importing this package imports none of them.
"""
