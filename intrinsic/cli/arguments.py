"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
AdaptersDir = Annotated[
    Path | None, typer.Option("--adapters-dir", help="Folder of adapters; default: the bundled.")
]
Registry = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="FILE|URL",
        help="Registry of adapters: a SQLite file or a URL; also $INTRINSIC_REGISTRY.",
    ),
]
PluginsDir = Annotated[
    list[Path] | None, typer.Option("--plugins", help="Folder of drop-in plugins; may be repeated.")
]
RouterName = Annotated[
    str | None,
    typer.Option("--router", help="keyword, embedding, hybrid, llm, cascade, or a plugin's."),
]
WordsRouterName = Annotated[
    str | None, typer.Option("--router", help="keyword, embedding, hybrid, or a plugin's.")
]
TopK = Annotated[int | None, typer.Option("--top-k", help="Mix at most this many adapters.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="Path or hub name of a causal model; default: the bundled."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Use adapters that may be for another model, if shapes fit."),
]
Shadow = Annotated[
    bool | None,
    typer.Option("--shadow/--no-shadow", help="Route and record, apply nothing; or do apply."),
]
BackendName = Annotated[str | None, typer.Option("--backend", help="transformers, or a plugin's.")]
Texts = list[str] | None

Calibrated = Annotated[
    Path | None, typer.Option("--calibration", metavar="FILE", help="What 'route fit' wrote.")
]
