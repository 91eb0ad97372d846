"""The field `lora` of a request: a mixture, or how to route, in the forms that clients write."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_ADAPTERS = 64
LONGEST_NAME = 400
_LONGEST_TEXT = 200_000


class Named(BaseModel):
    """An adapter as TabbyAPI's clients write it."""

    name: str = Field(max_length=LONGEST_NAME)
    scaling: float = Field(default=1.0, allow_inf_nan=False)


class Numbered(BaseModel):
    """An adapter as llama.cpp's clients write it, by its number in `GET /lora-adapters`."""

    id: int
    scale: float = Field(default=1.0, allow_inf_nan=False)


Part = tuple[str | int, float]
"""An adapter by name or number, and its weight."""


class Memory(BaseModel):
    """A text that matters to the request beside the conversation."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=_LONGEST_TEXT)
    relevance: float = Field(default=1.0, ge=-100.0, le=100.0)
    strength: float = Field(default=1.0, ge=-100.0, le=100.0)


def _parts(value: object) -> list[Part] | None:
    """A mixture in any of its forms; an adapter that is named twice is refused later."""
    if value is None:
        return None
    if isinstance(value, str):
        return [*parse_mixture(value)]
    if isinstance(value, Mapping):
        return [(_name(name), _weight(weight, name)) for name, weight in value.items()]
    if not isinstance(value, list):
        raise ValueError(
            f"a mixture is {value!r:.80}; write weights by name, or a list of "
            '{"name", "scaling"} or {"id", "scale"}'
        )
    return [_part(one) for one in value]


def _part(one: object) -> Part:
    keys = set(one) if isinstance(one, Mapping) else set()
    if isinstance(one, Mapping) and "name" in keys and keys <= {"name", "scaling"}:
        return _name(one["name"]), _weight(one.get("scaling", 1.0), one["name"])
    if isinstance(one, Mapping) and "id" in keys and keys <= {"id", "scale"}:
        number = one["id"]
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(f"the id of an adapter is {number!r:.80}; it must be a whole number")
        return number, _weight(one.get("scale", 1.0), number)
    raise ValueError(f'an adapter is {one!r:.80}; write {{"name", "scaling"}} or {{"id", "scale"}}')


def _name(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > LONGEST_NAME:
        raise ValueError(
            f"the name of an adapter is {value!r:.80}; it must be a text of at most {LONGEST_NAME} "
            "characters, not empty"
        )
    return value


def _weight(value: object, name: object) -> float:
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise ValueError(f"the weight of {name!r:.80} is {value!r:.80}; it must be a number")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def parse_mixture(text: str) -> Sequence[tuple[str, float]]:
    """Read `a:0.7+b:0.3`; a weight that is left out is 1. Raises `ValueError`."""
    pairs = []
    for part in text.split("+"):
        name, separator, weight = part.strip().rpartition(":")
        if separator and _NUMBER.fullmatch(weight.strip()):
            pairs.append((name.strip(), float(weight)))
        else:
            pairs.append((part.strip(), 1.0))
    if not all(name for name, _ in pairs):
        raise ValueError(f"{text!r:.80} names no adapter somewhere; write it as 'a:0.7+b:0.3'")
    return pairs


_NUMBER = re.compile(r"[+-]?(?:\d{1,20}\.?\d{0,20}|\.\d{1,20})(?:[eE]-?\d{1,2})?")

MixtureForms = dict[str, float] | list[Named | Numbered] | str


class Lora(BaseModel):
    """What a request says of its adapters. `mixture` fixes them; all else says how to route.

    `threshold` is the least confidence. With `request_id`, of an event that was published before,
    its adapters serve. `shadow` routes and applies nothing.
    """

    model_config = ConfigDict(extra="forbid")

    mixture: Annotated[
        Annotated[list[Part], Field(max_length=MOST_ADAPTERS)] | None,
        BeforeValidator(_parts, json_schema_input_type=MixtureForms | None),
    ] = None
    top_k: int | None = Field(default=None, ge=1, le=1000, strict=True)
    threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    exclude: list[Annotated[str, Field(max_length=LONGEST_NAME)]] = Field(
        default=[], max_length=1000
    )
    session: str | None = Field(default=None, min_length=1, max_length=256)
    memories: list[Memory] = Field(default=[], max_length=256)
    shadow: bool = False
    request_id: str | None = Field(default=None, min_length=1, max_length=256)

    @property
    def routes(self) -> bool:
        """Whether it says something of a routing of its own."""
        return bool(
            self.top_k is not None
            or self.threshold is not None
            or self.exclude
            or self.memories
            or self.shadow
        )


def _lora(value: Any) -> Any:  # noqa: ANN401
    """Everything that is no table of options is a mixture; a table of nothing says nothing."""
    if value == {}:
        return None
    if isinstance(value, str | list):
        return {"mixture": value}
    if isinstance(value, Mapping) and not value.keys() & Lora.model_fields.keys():
        return {"mixture": value}
    if isinstance(value, Mapping) and (unknown := value.keys() - Lora.model_fields.keys()):
        raise ValueError(
            f"{sorted(unknown)[0]!r:.80} is no option; known: {', '.join(Lora.model_fields)}; "
            "weights by name stand under 'mixture' beside options"
        )
    return value


LoraField = Annotated[
    Lora | None, BeforeValidator(_lora, json_schema_input_type=Lora | MixtureForms | None)
]
"""`lora` in a body."""
