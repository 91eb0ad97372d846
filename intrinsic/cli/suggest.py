"""Example queries for a card, written by a plugin or by the language model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from intrinsic.card import AdapterCard
from intrinsic.cli.output import tell
from intrinsic.cli.plugin_log import tell_error
from intrinsic.cli.session import load_plugins, loading
from intrinsic.config import Settings
from intrinsic.errors import BackendError
from intrinsic.system import load_model

if TYPE_CHECKING:
    from intrinsic.plugins import PluginManager

PLUGIN_TIMEOUT_S = 300.0
"""A plugin may ask a language model of its own."""

_ROUNDS = 4
_SHOWN_EXAMPLES = 8
_LONGEST = 300
_BULLET = re.compile(r"^\s*(?:[-*•]+|\(?\d+[.):])\s*")
_LETTER = re.compile(r"[^\W\d_]")


async def suggest_examples(card: AdapterCard, count: int, settings: Settings) -> list[str]:
    """Return at most `count` queries that the card does not have yet.

    Plugins are asked first (`suggest_examples`), then the model. Raises `BackendError` where
    neither writes a usable line.
    """
    plugins = load_plugins(settings)
    found = await _from_plugins(card, count, plugins)
    if found is None:
        found = await _from_model(card, count, plugins, settings)
    if not found:
        raise BackendError(
            f"nothing usable was suggested for adapter {card.name!r}; describe it in its card, or "
            "name another --model"
        )
    return found


async def _from_plugins(card: AdapterCard, count: int, plugins: PluginManager) -> list[str] | None:
    plugins.hook_timeout_s = PLUGIN_TIMEOUT_S
    outcome = await plugins.call_first("suggest_examples", card=card, count=count)
    for error in outcome.errors:
        tell_error(error)
    answer = outcome.value
    if answer is None:
        return None
    if not isinstance(answer, list | tuple) or not all(isinstance(one, str) for one in answer):
        tell(
            f"intrinsic: plugin {outcome.answered_by!r}, hook suggest_examples: answered "
            f"{answer!r:.80}, which is no list of strings; the model is asked"
        )
        return None
    return fresh(answer, card.examples, count)


async def _from_model(
    card: AdapterCard, count: int, plugins: PluginManager, settings: Settings
) -> list[str]:
    from intrinsic.backends import GenerationOptions

    with loading("loading", ("model",)) as done:
        model = await anyio.to_thread.run_sync(load_model, settings, plugins)
        done()
    found: list[str] = []
    for seed in range(_ROUNDS):
        decoding = GenerationOptions(
            max_new_tokens=min(32 * (count + 1), 512), temperature=0.8, top_p=0.95, seed=seed
        )
        written = await model.generate(prompt_for(card, found), options=decoding)
        known = (*card.examples, *found)
        found += fresh(written.text.splitlines(), known, count - len(found))
        if len(found) == count:
            break
    return found


def prompt_for(card: AdapterCard, found: Sequence[str] = ()) -> str:
    """The request to the model: what the adapter is for, and what was asked so far."""
    said = [
        "Write short requests that users send to an assistant, one per line.",
        f"The assistant: {card.sentence}",
    ]
    if card.keywords:
        said.append(f"Words that matter: {', '.join(card.keywords[:_SHOWN_EXAMPLES])}")
    shown = [*card.examples[:_SHOWN_EXAMPLES], *found]
    return "\n".join([*said, "", "Requests:", *(f"- {text}" for text in shown), "-"])


def fresh(lines: Iterable[str], known: Iterable[str], count: int) -> list[str]:
    """At most `count` lines that are requests, without bullets, and not among `known`.

    Empty lines, headings that end with a colon and very long lines are dropped; upper and lower
    case are the same.
    """
    seen = {text.casefold() for text in known}
    found: list[str] = []
    for line in lines:
        text = " ".join(_BULLET.sub("", line).split()).strip('"“”')
        usable = _LETTER.search(text) and not text.endswith(":") and len(text) <= _LONGEST
        if usable and text.isprintable() and text.casefold() not in seen and len(found) < count:
            seen.add(text.casefold())
            found.append(text)
    return found
