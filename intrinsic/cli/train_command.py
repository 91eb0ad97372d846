"""The options of `intrinsic train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from intrinsic.cli.arguments import Json, Registry, Texts


def train_command(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="JSON lines of prompt and response, or messages; of an encoder query and positive"
            " and perhaps negative, or text and label.",
        ),
    ],
    name: Annotated[str, typer.Option(help="The adapter's name.")],
    kind: Annotated[
        str, typer.Option(help="generation: of a causal model; embedding: of a text encoder.")
    ] = "generation",
    base: Annotated[
        str | None,
        typer.Option(
            help="Folder of the model, or a hub name that is in the cache; of an encoder the"
            " bundled one if left out."
        ),
    ] = None,
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
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate at its highest; default: 2e-4, of an encoder 1e-3."),
    ] = None,
    batch_tokens: Annotated[int, typer.Option(help="Tokens of a batch, padding too.")] = 2048,
    batch_pairs: Annotated[int, typer.Option(help="Of an encoder: pairs of a batch.")] = 64,
    temperature: Annotated[
        float, typer.Option(help="Of an encoder: cosines are divided by it.")
    ] = 0.05,
    query_prefix: Annotated[
        str, typer.Option(help="Of an encoder: written before queries and labelled texts.")
    ] = "",
    passage_prefix: Annotated[
        str, typer.Option(help="Of an encoder: written before positives and negatives.")
    ] = "",
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
    adapters_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where NAME-VERSION is made; default: adapters, of an encoder encoder_adapters."
        ),
    ] = None,
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

    With --kind embedding it is an encoder's, from pairs or labelled texts. The registry is that of
    --registry, else ADAPTERS_DIR.db beside the folder of --adapters-dir, else what the settings
    name, except with --kind embedding. With --from-hypernet rank, alpha and layers are those of the
    hypernetwork.
    """
    from typing import Any

    from intrinsic.cli.hypernet import generated_start
    from intrinsic.cli.train import run_train
    from intrinsic.errors import ConfigError
    from intrinsic.training.embedding.plan import EmbeddingPlan
    from intrinsic.training.lora.job import TrainingJob
    from intrinsic.training.lora.plan import AdapterPlan, LoraPlan

    if kind not in _NOT_OF:
        raise ConfigError(f"--kind is {kind!r}; it must be one of {', '.join(_NOT_OF)}")
    _refuse(context, _NOT_OF[kind], f"is not for --kind {kind}")
    if from_hypernet is not None:
        _refuse(context, _OF_HYPERNET, "is the generated adapter's where --from-hypernet is given")
    if base is None and kind == "generation":
        raise ConfigError(
            "--base is missing; name a folder of a causal model, a hub name that is in the cache, "
            "or intrinsic/base for the bundled one"
        )
    adapters_dir, place = _places(kind, adapters_dir, registry)
    job = TrainingJob(
        base=base or BUNDLED_ENCODER,
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
    shared: dict[str, Any] = {
        "rank": rank,
        "alpha": alpha,
        "targets": tuple(one.strip() for part in targets or () for one in part.split(",")),
        "epochs": epochs,
        "max_steps": max_steps,
        "max_length": max_length,
        "dropout": dropout,
        "seed": seed,
        "validation_share": validation_share,
        "patience": patience,
        "every": every,
        "gradient_checkpointing": gradient_checkpointing,
        "dtype": dtype,
        "device": device,
        "save_dtype": save_dtype,
    } | ({} if lr is None else {"learning_rate": lr})
    plan: AdapterPlan
    if kind == "embedding":
        plan = EmbeddingPlan(
            **shared,
            batch_pairs=batch_pairs,
            temperature=temperature,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
        )
    else:
        plan = LoraPlan(**shared, batch_tokens=batch_tokens, blank_share=blank_share)
    with generated_start(from_hypernet, query, job.base) as start:
        run_train(replace(job, start=start), plan, place if register else None, as_json=json)


BUNDLED_ENCODER = "all-MiniLM-L6-v2"
DEFAULT_FOLDERS = {"generation": Path("adapters"), "embedding": Path("encoder_adapters")}
"""Apart: adapters of the language model are found in the former, and routed to by their cards."""

_OF_HYPERNET = ("rank", "alpha", "targets")
_NOT_OF = {
    "generation": ("batch_pairs", "temperature", "query_prefix", "passage_prefix"),
    "embedding": ("batch_tokens", "blank_share", "from_hypernet", "query"),
}
"""Options that a kind has no use for."""


def _places(kind: str, adapters_dir: Path | None, registry: str | None) -> tuple[Path, str | Path]:
    """Where NAME-VERSION is made, and the registry: of the flags, else of the settings.

    Those name what requests are routed to, so an encoder's adapters are kept out of it.
    """
    from intrinsic.cli.settings import project_of
    from intrinsic.config.place import place_in

    folder = adapters_dir or (DEFAULT_FOLDERS[kind] if kind == "embedding" else None)
    project = project_of(registry, None if registry else folder)
    folder = folder or project.adapters or DEFAULT_FOLDERS[kind]
    return folder, place_in(replace(project, adapters=folder))


def _refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Raise `ConfigError` where somebody gave one of these options."""
    from intrinsic.errors import ConfigError

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(f"--{name.replace('_', '-')} {why}; leave it out")
