"""Use is noted by version, whatever happens to it between the route and the note."""

from __future__ import annotations

from pathlib import Path

from intrinsic.mixture import Mixture
from intrinsic.receipt import Receipt
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.registering import Newcomer
from intrinsic.selection import NO_CONTEXT, RouteContext, Selection
from intrinsic.wiring.usage_notes import UsageNotes
from tests.bus.backends import both_backends
from tests.tiny import llama, write_adapter


@both_backends
async def test_what_is_switched_off_or_unknown_is_noted_where_it_can_be(tmp_path: Path) -> None:
    async with AdapterCatalog(tmp_path / "adapters.db") as catalog:
        record = await catalog.register(Newcomer(write_adapter(tmp_path / "a", llama())))
        notes = UsageNotes(catalog)
        notes.on_route("x", [Selection("a", 0.5), Selection("nobody", 0.9)], NO_CONTEXT)
        notes.on_route("x", [Selection("a", 0.5)], RouteContext(trial=True))
        await catalog.deactivate("a")
        notes.on_route("x", [Selection("a", 0.7)], NO_CONTEXT)  # a name without a version now
        notes.on_route("x", [Selection("a@1", 0.7)], NO_CONTEXT)
        notes.on_generation(Receipt("r", mixture=Mixture.of({"a@1": 1.0, "b@1": 1.0})), 7, 1.0)
        notes.on_adapter_loaded("a@1", 250.0)
        used = (await catalog.usage.usage_of([record.id]))[record.id]
        assert (used.routed, used.generated, used.tokens, used.loads) == (2, 1, 7, 1)
        assert used.load_seconds == 0.25
