"""The settings of an `EmbeddingProvider`; importing them imports no tensor library."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from intrinsic.errors import ConfigError
from intrinsic.registry.entry import CONFIG_NAME
from intrinsic.registry.inspection import WEIGHTS_NAME

Pooling = Literal["auto", "mean", "cls", "last"]
"""What makes one vector of a text's tokens; "auto" is the model's own way, or else the mean."""

PaddingSide = Literal["auto", "left", "right"]
"""Where short texts of a batch are filled up; "auto" is the tokenizer's own side."""

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""What the model computes in; "auto" is what its files hold, float32 on a CPU."""

OnAdapterError = Literal["raise", "base"]
"""What an adapter that cannot be served does: stop `initialize()`, or leave the base model."""

Form = Literal["query", "passage"]
"""Which of a task's two prefixes a text gets."""


@dataclass(frozen=True, slots=True)
class InstructionForms:
    """What is written before a text of one task: before a query, and before a passage."""

    query: str = ""
    passage: str = ""

    def __post_init__(self) -> None:
        for name in get_args(Form):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(
                    f"the {name} form of an instruction is {getattr(self, name)!r:.80}; "
                    "it must be a string"
                )


@dataclass(frozen=True, slots=True)
class EmbeddingOptions:
    """How an `EmbeddingProvider` works. Raises `ConfigError`, one sentence per fault.

    `model` is a folder or a hub name of any encoder, None the bundled MiniLM; the network is used
    only with `local_files_only=False`. `normalize=False` leaves vectors at the length that the
    model gives them. Texts of more than `max_length` tokens (None: the model's own limit) are read
    in pieces; if these are more than `max_pieces`, that many, spread evenly over the text.

    `instructions` has prefixes by task, `task` is the one for calls that name none (None: no
    prefix). At most `batch_size` texts, and with their padding `batch_tokens` tokens, are encoded
    at once, so that batches shrink as texts grow. `cached_texts` vectors are kept in memory.

    `lora_adapter_path` is a PEFT folder whose adapter serves every call that names none,
    multiplied by `scaling`; it is checked here, and read by `initialize()`. `max_loaded` adapters
    are on the model at once. `busy_timeout_s` bounds the wait for a model that does not get done
    with another's texts.
    """

    model: str | Path | None = None
    local_files_only: bool = True
    pooling: Pooling = "auto"
    normalize: bool = True
    max_length: int | None = None
    padding_side: PaddingSide = "auto"
    instructions: Mapping[str, InstructionForms] = field(default_factory=dict)
    task: str | None = None
    batch_size: int = 32
    batch_tokens: int = 4096
    device: str = "cpu"
    dtype: Dtype = "auto"
    lora_adapter_path: str | Path | None = None
    scaling: float = 1.0
    max_loaded: int = 8
    on_adapter_error: OnAdapterError = "raise"
    cached_texts: int = 2048
    max_pieces: int = 16
    busy_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_numbers()
        object.__setattr__(self, "instructions", _table(self.instructions))
        if self.task is not None and self.task not in self.instructions:
            raise ConfigError(f"task is {self.task!r}; {_known(self.task, self.instructions)}")
        _refuse_adapter(self.model)
        if self.lora_adapter_path is not None:
            object.__setattr__(self, "lora_adapter_path", _adapter(self.lora_adapter_path))

    def prefix(self, instruction: str | None, form: Form = "query") -> str:
        """What to write before a text: of a task of the table, or `instruction` itself.

        A single word is always a task, so that a misspelt one is no prefix. Raises `ConfigError`
        for one that the table does not have, and for a form that there is not.
        """
        if form not in get_args(Form):
            raise ConfigError(f"form is {form!r}; valid: {', '.join(get_args(Form))}")
        name = self.task if instruction is None else instruction
        if not name:
            return ""
        forms = self.instructions.get(name)
        if forms is not None:
            return forms.query if form == "query" else forms.passage
        if name.replace("-", "_").isidentifier():
            raise ConfigError(
                f"unknown task {name!r}; {_known(name, self.instructions)}, "
                "or write the prefix itself, which has a colon or a space"
            )
        return name

    def _check_choices(self) -> None:
        for name, valid in (
            ("pooling", Pooling),
            ("padding_side", PaddingSide),
            ("dtype", Dtype),
            ("on_adapter_error", OnAdapterError),
        ):
            value = getattr(self, name)
            if value not in get_args(valid):
                raise ConfigError(f"{name} is {value!r}; valid: {', '.join(get_args(valid))}")
        for name in ("local_files_only", "normalize"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be true or false")
        for name, kinds, what in (
            ("model", (str, Path, type(None)), "a folder or a hub name"),
            ("lora_adapter_path", (str, Path, type(None)), "a folder"),
            ("device", (str,), "a device of torch"),
            ("task", (str, type(None)), "a task of the instructions"),
        ):
            value = getattr(self, name)
            if not isinstance(value, kinds):
                raise ConfigError(f"{name} is {value!r:.80}; it must be {what}")
            if value is not None and not str(value).strip():
                raise ConfigError(f"{name} is empty; leave it out, or name one")

    def _check_numbers(self) -> None:
        for name, least in (
            ("max_length", 8),
            ("batch_size", 1),
            ("batch_tokens", 1),
            ("max_loaded", 1),
            ("max_pieces", 1),
            ("cached_texts", 0),
        ):
            value = getattr(self, name)
            if value is None and name == "max_length":
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(f"{name} is {value!r:.80}; it must be a whole number")
            if value < least:
                raise ConfigError(f"{name} is {value}; it must be at least {least}")
        for name in ("scaling", "busy_timeout_s"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ConfigError(f"{name} is {value!r:.80}; it must be a number")
        if not math.isfinite(self.scaling):
            raise ConfigError(f"scaling is {self.scaling}; it must be a finite number")
        if not self.busy_timeout_s > 0:
            raise ConfigError(f"busy_timeout_s is {self.busy_timeout_s}; it must be above 0")
        object.__setattr__(self, "scaling", float(self.scaling))


def _table(given: object) -> Mapping[str, InstructionForms]:
    """The table of prefixes, whose forms a file of settings may give as tables of strings."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"instructions is {given!r:.80}; it must be a table of prefixes by task")
    return {str(task): _forms(str(task), forms) for task, forms in given.items()}


def _forms(task: str, given: object) -> InstructionForms:
    if isinstance(given, InstructionForms):
        return given
    if not isinstance(given, Mapping) or not given.keys() <= set(get_args(Form)):
        raise ConfigError(
            f"instructions of task {task!r} are {given!r:.80}; they must be a table with "
            f"{' and '.join(get_args(Form))}"
        )
    return InstructionForms(**given)


def _known(task: str, table: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(task, table, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known tasks: {', '.join(sorted(table)) or 'none'}"


def _refuse_adapter(model: str | Path | None) -> None:
    """A folder that holds an adapter alone would be loaded with it, and without its base."""
    folder = Path(model or "")
    if not model or not os.path.isfile(folder / CONFIG_NAME):
        return
    if not os.path.isfile(folder / "config.json"):
        raise ConfigError(
            f"model {folder} is an adapter, not a model; name it as lora_adapter_path, and as "
            "model the one that it was trained for"
        )


def _adapter(given: str | Path) -> Path:
    """The folder of an adapter, expanded, once both of its files were seen."""
    try:
        folder = Path(given).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"lora_adapter_path {given} cannot be found: {error}") from None
    if not os.path.lexists(folder):
        raise ConfigError(
            f"lora_adapter_path {folder} does not exist; name a folder that PEFT's "
            "save_pretrained wrote"
        )
    if not folder.is_dir():
        raise ConfigError(
            f"lora_adapter_path {folder} is no directory; name the folder that holds {CONFIG_NAME}"
        )
    if not (folder / CONFIG_NAME).is_file():
        raise ConfigError(
            f"lora_adapter_path {folder} has no {CONFIG_NAME}; name a folder that PEFT's "
            "save_pretrained wrote"
        )
    if not (folder / WEIGHTS_NAME).is_file():
        raise ConfigError(
            f"lora_adapter_path {folder} has no {WEIGHTS_NAME}; save the adapter with "
            "safetensors, as PEFT does unless told otherwise"
        )
    return folder
