"""How answers are decoded where a request does not say."""

from __future__ import annotations

from dataclasses import dataclass

from intrinsic.backends import GenerationOptions
from intrinsic.server.openai.sampling import WHOLE_CONTEXT
from intrinsic.server.service import Service

_LENGTH = "generation.max_new_tokens"


@dataclass(frozen=True, slots=True)
class Defaults:
    """The settings' options; `max_tokens` is theirs only where somebody set it."""

    options: GenerationOptions
    max_tokens: int


def defaults_of(service: Service, *, unset: int = WHOLE_CONTEXT) -> Defaults:
    """Those of `[generation]`; an answer's length is `unset` where the settings do not say."""
    settings = service.system.settings
    options = settings.generation_options()
    said = _LENGTH in settings.origins
    return Defaults(options, options.max_new_tokens if said else unset)
