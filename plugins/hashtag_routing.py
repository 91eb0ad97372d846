"""A routing plugin: a query that names adapters as hashtags gets exactly those.

`#legal #medical Who owns a patient's records?` mixes both in equal parts; a query without a
hashtag of a known adapter is left to the router.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from intrinsic import AdapterCard, Selection, hookimpl


@hookimpl(tryfirst=True)
def select_adapters(
    query: str, candidates: Sequence[AdapterCard], top_k: int
) -> list[Selection] | None:
    """Answer with the named adapters, or with None to let others decide."""
    tags = [tag.lower() for tag in re.findall(r"#([\w-]+)", query)]
    named = [card for card in candidates if card.name.lower() in tags][:top_k]
    if not named:
        return None
    share = 1.0 / len(named)
    return [Selection(card.name, 1.0, share, reason=f"#{card.name}") for card in named]
