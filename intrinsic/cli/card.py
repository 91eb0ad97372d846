"""`intrinsic adapters card NAME`: shown, edited, suggested for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from intrinsic.card import AdapterCard
from intrinsic.cli.card_edit import CardEdit
from intrinsic.cli.output import print_json, print_table, tell
from intrinsic.cli.session import open_registry
from intrinsic.cli.suggest import suggest_examples
from intrinsic.config import Settings
from intrinsic.errors import ConfigError
from intrinsic.registry import AdapterEntry
from intrinsic.registry.card_file import card_lock, write_card
from intrinsic.registry.entry import read_entry


async def run_card(
    name: str,
    edit: CardEdit,
    settings: Settings,
    suggest: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Print the card as it is after the edit; suggestions are added to it only with `yes`."""
    check_suggesting(suggest, yes)
    registry = open_registry(replace(settings.project, model=None))  # that is what suggests
    entry = registry.get_adapter(name)
    seen = edit.applied(entry.card)  # what is wrong is told before a model is loaded
    suggested: list[str] = []
    if suggest is not None:
        suggested = await suggest_examples(seen, suggest, settings)
    with card_lock(entry.path):
        entry = read_entry(entry.path)  # as it is now: others edit, too
        card = with_examples(edit.applied(entry.card), suggested if yes else ())
        written = card != entry.card
        path = write_card(entry, card) if written else entry.path
    if written:
        tell(f"{path} is written")
        if (entry.path / "card.json").exists():
            tell(f"{entry.path / 'card.json'} is not read any more: card.toml stands before it")
    print_card(entry, card, suggested, written=written, as_json=as_json)
    if suggested and not yes:
        tell("the suggestions are not written; add --yes to write them")


def check_suggesting(suggest: int | None, yes: bool) -> None:
    """Raise `ConfigError` for options that have no meaning."""
    if suggest is not None and suggest < 1:
        raise ConfigError(f"--suggest is {suggest}; it must be 1 or more")
    if yes and suggest is None:
        raise ConfigError("--yes is for suggestions; add --suggest N, or leave it out")


def with_examples(card: AdapterCard, texts: Sequence[str]) -> AdapterCard:
    """The card with those that it does not have yet."""
    new = (text for text in texts if text not in card.examples)
    return replace(card, examples=(*card.examples, *new))


def print_card(
    entry: AdapterEntry,
    card: AdapterCard,
    suggested: Sequence[str],
    *,
    written: bool,
    as_json: bool,
) -> None:
    """Print a card, and what was suggested for it."""
    fields = asdict(card) | {"path": str(entry.path)}
    if as_json:
        print_json(fields | {"written": written, "suggested": list(suggested)})
        return
    rows = [(key, _text(value)) for key, value in fields.items()]
    rows += [("suggested", text) for text in suggested]
    print_table(card.key, ("field", "value"), rows)


def _text(value: object) -> str:
    if value is None:
        return "the router's own"
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
