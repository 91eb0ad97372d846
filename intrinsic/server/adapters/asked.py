"""What requests about adapters say."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, Field, StringConstraints

from intrinsic.registry.ratings import HIGHEST, LOWEST
from intrinsic.registry.store.listing import Sort
from intrinsic.server.fields import AdapterName, Label, Line, ServerPath, Share, Text

Named = Annotated[AdapterName, Path(description="`name`, or `name@version`.")]
"""An adapter in the path of a request."""

Sentence = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
Sentences = Annotated[list[Sentence], Field(max_length=1000)]
Stars = Annotated[int, Field(ge=LOWEST, le=HIGHEST)]


class ListFilter(BaseModel, extra="forbid"):
    """Which adapters, in which order; in `name`, `*` and `?` stand for other letters."""

    active: bool | None = None
    domain: Line | None = None
    base_model: Line | None = None
    name: Line | None = None
    trained_here: bool | None = None
    deleted: bool = False
    sort: Sort = "name"
    descending: bool = False
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    offset: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0


class Registration(BaseModel, extra="forbid"):
    """A folder of the server, and what is said of the adapter in it; null is what its card says.

    With `copy` its files are copied into the registry's own folder. By default the first version
    of a name is active.
    """

    path: ServerPath
    name: AdapterName | None = None
    version: Line | None = None
    base_model: Line | None = None
    domain: Sentence | None = None
    description: Sentence | None = None
    keywords: Sentences | None = None
    examples: Sentences | None = None
    copy_files: Annotated[bool, Field(alias="copy")] = False
    activate: bool | None = None


class CardChange(BaseModel, extra="forbid"):
    """Fields of a card that are to be replaced; those that are left out stay."""

    domain: Sentence = ""
    description: Sentence = ""
    keywords: Sentences = []
    examples: Sentences = []
    negatives: Sentences = []
    must: Sentences = []
    never: Sentences = []
    group: Sentence = ""
    threshold: Share | None = None


class Activate(BaseModel, extra="forbid"):
    """`keep_others` leaves other versions of the name active; `preload` brings it into memory."""

    keep_others: bool = False
    preload: bool = True


class Rename(BaseModel, extra="forbid"):
    """A name that was never used."""

    new_name: AdapterName


class Rate(BaseModel, extra="forbid"):
    """What somebody thinks of an output, and of single aspects of it: 1 to 5."""

    rating: Stars
    criteria: Annotated[dict[Label, Stars], Field(max_length=64)] = {}
    tags: Annotated[list[Label], Field(max_length=64)] = []
    prompt: Text = ""
    output: Text = ""
    rater: Line = ""


class Prefer(BaseModel, extra="forbid"):
    """Which of two adapters, or `base`, answered a prompt better."""

    a: AdapterName
    b: AdapterName
    outcome: Literal["a", "b", "tie"]
    prompt: Text = ""
    rater: Line = ""
