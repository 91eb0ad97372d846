"""`intrinsic adapters card NAME` on a registry: its own card, not that of the files."""

from __future__ import annotations

from intrinsic.cli.card import check_suggesting, print_card, with_examples
from intrinsic.cli.card_edit import CardEdit
from intrinsic.cli.output import tell
from intrinsic.cli.registry_place import opened
from intrinsic.cli.suggest import suggest_examples
from intrinsic.config import Settings
from intrinsic.config.place import Where
from intrinsic.registry import AdapterEntry


async def run_registered_card(
    where: Where,
    name: str,
    edit: CardEdit,
    settings: Settings,
    suggest: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Print the card as it is after the edit; suggestions are added to it only with `yes`."""
    check_suggesting(suggest, yes)
    async with opened(where) as catalog:
        record = await catalog.get(name)
    seen = edit.applied(record.card)  # what is wrong is told before a model is loaded
    suggested = [] if suggest is None else await suggest_examples(seen, suggest, settings)
    async with opened(where) as catalog:
        record = await catalog.get(record.key)  # as it is now: others edit, too
        card = with_examples(edit.applied(record.card), suggested if yes else ())
        written = card != record.card
        if written:
            await catalog.update_card(record.key, card)
            tell(f"the card of {record.key} is changed in {catalog.database.shown}")
    entry = AdapterEntry(card, record.path, record.base_model)
    print_card(entry, card, suggested, written=written, as_json=as_json)
    if suggested and not yes:
        tell("the suggestions are not written; add --yes to write them")
