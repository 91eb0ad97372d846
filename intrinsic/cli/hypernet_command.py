"""The options of `intrinsic hypernet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intrinsic.cli.arguments import Json, Texts

hypernet_app = typer.Typer(
    help="Experimental: train a network that writes an adapter from a query, and use it.",
    no_args_is_help=True,
)
Folder = Annotated[Path, typer.Argument(metavar="HYPERNET", help="What 'hypernet train' wrote.")]
Tasks = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="index.jsonl and a file of rows per task.")
]
Base = Annotated[
    str | None, typer.Option("--base", help="Its base model, where it lies elsewhere by now.")
]


@hypernet_app.command("train")
def train(
    base: Annotated[
        str, typer.Option(help="Folder of a causal model, or a hub name that is in the cache.")
    ],
    data: Tasks,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make.")],
    encoder: Annotated[
        str, typer.Option(help="hashed-stems, hashed-words, bundled, or a model's name.")
    ] = "hashed-stems",
    architecture: Annotated[
        str, typer.Option(help="core, core_diagonal, per_rank, shared_heads or heads.")
    ] = "core",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Its own, as hidden_dim=64 or linear=false."),
    ] = None,
    rank: Annotated[int, typer.Option(help="LoRA rank.")] = 8,
    alpha: Annotated[float, typer.Option(help="LoRA alpha.")] = 16.0,
    targets: Annotated[
        Texts, typer.Option(help="Layers to adapt, as q_proj,v_proj; default: all matrices.")
    ] = None,
    held_out: Annotated[Texts, typer.Option(help="Tasks never learned nor chosen by.")] = None,
    validation: Annotated[Texts, typer.Option(help="Tasks to choose the best step by.")] = None,
    validation_share: Annotated[
        float, typer.Option(help="Share of tasks to choose by, where none are named.")
    ] = 0.1,
    held_rows: Annotated[int, typer.Option(help="Rows of a learned task kept for eval.")] = 32,
    steps: Annotated[int, typer.Option(help="Steps to make.")] = 1500,
    tasks_per_step: Annotated[int, typer.Option(help="Tasks in a step.")] = 16,
    rows_per_task: Annotated[int, typer.Option(help="Rows of each.")] = 8,
    lr: Annotated[float, typer.Option(help="Learning rate at its highest.")] = 2e-3,
    embedding_noise: Annotated[
        float, typer.Option(help="Blur embeddings by up to so many times their length.")
    ] = 0.4,
    nonsense_share: Annotated[
        float, typer.Option(help="Share of steps that ask nonsense and pull to the base.")
    ] = 0.06,
    warm_up_from: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Stored adapters to reproduce first, a folder per task."),
    ] = None,
    warm_up_steps: Annotated[int, typer.Option(help="Steps of that, before the others.")] = 200,
    every: Annotated[int, typer.Option(help="Steps between validations and checkpoints.")] = 100,
    patience: Annotated[
        int, typer.Option(help="Validations without a gain until it stops; 0: never.")
    ] = 0,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens of a row; default: the model's, at most 1024.")
    ] = None,
    refuse_good: Annotated[
        float, typer.Option(help="Share of descriptions that the gate may refuse.")
    ] = 0.01,
    seed: Annotated[int, typer.Option(help="Fixes all that is drawn.")] = 17,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from checkpoints, or begin anew.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the hypernetwork there.")] = False,
    json: Json = False,
) -> None:
    """Train a hypernetwork on described tasks, calibrate its gate, and write its folder."""
    from intrinsic.cli.hypernet import options_of, run_hypernet_train
    from intrinsic.hypernet.job import HypernetJob
    from intrinsic.hypernet.plan import HypernetPlan

    job = HypernetJob(
        base=base,
        data=data,
        out=out,
        encoder=encoder,
        architecture=architecture,
        options=options_of(option or ()),
        rank=rank,
        alpha=alpha,
        targets=_split(targets),
        held_out=_split(held_out),
        validation=_split(validation),
        validation_share=validation_share,
        held_rows=held_rows,
        adapters=warm_up_from,
        refuse_good=refuse_good,
        resume=resume,
        force=force,
    )
    plan = HypernetPlan(
        steps=steps,
        tasks_per_step=tasks_per_step,
        rows_per_task=rows_per_task,
        learning_rate=lr,
        embedding_noise=embedding_noise,
        nonsense_share=nonsense_share,
        warm_up_steps=0 if warm_up_from is None else warm_up_steps,
        every=every,
        patience=patience,
        max_length=max_length,
        seed=seed,
    )
    run_hypernet_train(job, plan, as_json=json)


@hypernet_app.command("eval")
def evaluate(
    folder: Folder,
    data: Tasks,
    base: Base = None,
    tasks: Annotated[Texts, typer.Option(help="Tasks to score; default: all.")] = None,
    rows: Annotated[int | None, typer.Option(help="Rows of a task at most.")] = None,
    json: Json = False,
) -> None:
    """Score tasks bare and under generated weights, on rows that were not learned."""
    from intrinsic.cli.hypernet import run_hypernet_eval

    run_hypernet_eval(folder, data, base, _split(tasks), rows, as_json=json)


@hypernet_app.command("generate")
def generate(
    folder: Folder,
    query: Annotated[str, typer.Option(help="What the adapter is for, in a sentence.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make.")],
    base: Base = None,
    gated: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Whether the gate may refuse the query.")
    ] = True,
    example: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="PROMPT ANSWER", help="Write it only where it helps on this one."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the adapter there.")] = False,
    json: Json = False,
) -> None:
    """Write the adapter of a query, in PEFT's format."""
    from intrinsic.cli.hypernet import run_hypernet_generate

    run_hypernet_generate(folder, query, out, base, example, gated=gated, force=force, as_json=json)


def _split(texts: Texts) -> tuple[str, ...]:
    return tuple(one.strip() for part in texts or () for one in part.split(",") if one.strip())
