"""The options of `intrinsic train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intrinsic.cli.arguments import Json, Registry, Texts


def train_command(
    context: typer.Context,
    base: Annotated[
        str, typer.Option(help="Folder of a causal model, or a hub name that is in the cache.")
    ],
    data: Annotated[
        Path, typer.Option(metavar="FILE", help="JSON lines of prompt and response, or messages.")
    ],
    name: Annotated[str, typer.Option(help="The adapter's name.")],
    version: Annotated[str, typer.Option(help="Its version.")] = "1.0.0",
    description: Annotated[str, typer.Option(help="What it is for, in a sentence.")] = "",
    domain: Annotated[str, typer.Option(help="The subject, in a word or two.")] = "",
    keyword: Annotated[Texts, typer.Option(help="For its card; may be repeated.")] = None,
    rank: Annotated[int, typer.Option(help="LoRA rank.")] = 16,
    alpha: Annotated[
        float | None, typer.Option(help="LoRA alpha; default: twice the rank.")
    ] = None,
    targets: Annotated[
        Texts, typer.Option(help="Layers to adapt, as q_proj,v_proj; default: all matrices.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Times that every row is seen.")] = 3,
    max_steps: Annotated[
        int | None, typer.Option(help="Steps at most, where the epochs are more.")
    ] = None,
    lr: Annotated[float, typer.Option(help="Learning rate at its highest.")] = 2e-4,
    batch_tokens: Annotated[int, typer.Option(help="Tokens of a batch, padding too.")] = 2048,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens of a row; default: the model's, at most 1024.")
    ] = None,
    dropout: Annotated[float, typer.Option(help="Of the adapter's input.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Fixes all that is drawn.")] = 17,
    validation_share: Annotated[float, typer.Option(help="Share of rows held out.")] = 0.1,
    blank_share: Annotated[
        float, typer.Option(help="Share of rows to train on that are asked with nothing.")
    ] = 0.0,
    patience: Annotated[
        int, typer.Option(help="Validations without a gain until it stops; 0: never.")
    ] = 3,
    every: Annotated[
        int | None, typer.Option(help="Steps between validations; default: an epoch, at most 200.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    save_dtype: Annotated[str, typer.Option(help="In the file: fp32, fp16 or bf16.")] = "fp32",
    data_url: Annotated[
        str, typer.Option(help="Where the rows come from; default: the file's path.")
    ] = "",
    from_hypernet: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Start from its answer to --query: its rank, alpha, layers."
        ),
    ] = None,
    query: Annotated[
        str | None, typer.Option(help="What the adapter is for; with --from-hypernet.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to make; default: NAME-VERSION.")
    ] = None,
    adapters_dir: Annotated[Path, typer.Option(help="Where NAME-VERSION is made.")] = Path(
        "adapters"
    ),
    registry: Registry = None,
    register: Annotated[
        bool, typer.Option("--register/--no-register", help="Keep it as a version.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from checkpoints, or begin anew.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the adapter there.")] = False,
    json: Json = False,
) -> None:
    """Train an adapter on prompts and responses, say what it gained, and register it.

    The registry is that of --registry, else ADAPTERS_DIR.db beside the folder of adapters. With
    --from-hypernet rank, alpha and layers are those of the hypernetwork.
    """
    from dataclasses import replace
    from typing import cast

    from intrinsic.cli.hypernet import generated_start
    from intrinsic.cli.registry_place import place_of
    from intrinsic.cli.train import run_train
    from intrinsic.training.lora.job import TrainingJob
    from intrinsic.training.lora.plan import Device, Dtype, FileDtype, LoraPlan

    if from_hypernet is not None:
        _leave_to_hypernet(context)
    job = TrainingJob(
        base=base,
        data=data,
        name=name,
        version=version,
        description=description,
        domain=domain,
        keywords=tuple(keyword or ()),
        data_url=data_url,
        out=out,
        adapters_dir=adapters_dir,
        resume=resume,
        force=force,
    )
    plan = LoraPlan(
        rank=rank,
        alpha=alpha,
        targets=tuple(one.strip() for part in targets or () for one in part.split(",")),
        epochs=epochs,
        max_steps=max_steps,
        learning_rate=lr,
        batch_tokens=batch_tokens,
        max_length=max_length,
        dropout=dropout,
        seed=seed,
        validation_share=validation_share,
        blank_share=blank_share,
        patience=patience,
        every=every,
        gradient_checkpointing=gradient_checkpointing,
        dtype=cast(Dtype, dtype),
        device=cast(Device, device),
        save_dtype=cast(FileDtype, save_dtype),
    )
    place = place_of(registry, None if registry else adapters_dir) if register else None
    with generated_start(from_hypernet, query, base) as start:
        run_train(replace(job, start=start), plan, place, as_json=json)


def _leave_to_hypernet(context: typer.Context) -> None:
    """Raise `ConfigError` where somebody gave what the generated adapter decides."""
    from intrinsic.errors import ConfigError

    for name in ("rank", "alpha", "targets"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(
                f"--{name} is the generated adapter's where --from-hypernet is given; leave it out"
            )
