"""The feedback on versions in the catalog, compared."""

from __future__ import annotations

from collections.abc import Sequence

from intrinsic.errors import AdapterNotFoundError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.comparison import Comparison, compare
from intrinsic.registry.preferences import Version, Vote


async def compare_versions(
    catalog: AdapterCatalog, name: str, versions: Sequence[str] = ()
) -> Comparison:
    """Compare versions of a name, by default all, and with the base model where people did.

    A version of another name is `name@version`. In the answer versions are called as they are here.
    Raises `AdapterNotFoundError` for an unknown or a deleted one, `ConfigError` for one twice.
    """
    if not versions:
        versions = [one.card.version for one in await catalog.versions.all_live([name])]
    if not versions:
        await catalog.get(name)
        raise AdapterNotFoundError.of(name, ())
    ids = {
        version: (await catalog.get(version if "@" in version else f"{name}@{version}")).id
        for version in versions
    }
    ratings = await catalog.feedback.ratings_of([*ids.values(), None])
    votes = await catalog.feedback.votes_between([*ids.values(), None])
    called: dict[Version, Version] = {one: version for version, one in ids.items()}
    return compare(
        versions,
        {called.get(one): given for one, given in ratings.items()},
        [Vote(called.get(vote.a), called.get(vote.b), vote.outcome) for vote in votes],
    )
