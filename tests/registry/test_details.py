"""Everything about one version, as its files, its users and its training left it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intrinsic.errors import AdapterNotFoundError
from intrinsic.registry.catalog import AdapterCatalog
from intrinsic.registry.details import details_of
from intrinsic.registry.provenance import Provenance, TrainingData
from tests.bus.backends import both_backends
from tests.registry.cataloguing import adapter, newcomer
from tests.tiny import llama


@both_backends
async def test_details_have_metadata_provenance_usage_and_feedback(
    where: str, tmp_path: Path
) -> None:
    llama().save_pretrained(tmp_path / "base")
    folder = adapter(tmp_path / "made", base_model_name_or_path=str(tmp_path / "base"))
    how = Provenance(data=TrainingData("rows", rows=7), seed=3, trainer="intrinsic train")
    async with AdapterCatalog(where) as catalog:
        kept = await catalog.register(newcomer(folder, "sql@1", domain="Data", provenance=how))
        other = await catalog.register(newcomer(folder, "sql@2"))
        catalog.usage.note_routed(kept.id, 0.75)
        catalog.usage.note_generated(kept.id, 20)
        catalog.usage.note_loaded(kept.id, 0.5)
        await catalog.feedback.rate(kept.id, 4, {"style": 5})
        await catalog.feedback.prefer(kept.id, None, "a")
        await catalog.feedback.prefer(other.id, kept.id, "a")
        details = await details_of(catalog, "sql")
        found = json.loads(json.dumps(details.as_json()))
        assert details.record == kept
        assert (found["name"], found["version"], found["domain"]) == ("sql", "1", "Data")
        assert (found["active"], found["trained_here"], found["copied"]) == (True, True, False)
        assert (found["rank"], found["layers"], found["kinds"]) == ([4], 1, ["lora"])
        assert found["base_signature"]["model_type"] == "llama"
        assert found["provenance"] == how.as_json()
        assert found["registered_at"].endswith("+00:00")
        assert found["deleted_at"] is None
        usage = found["usage"]
        assert (usage["routed"], usage["generated"], usage["tokens"]) == (1, 1, 20)
        assert (usage["mean_confidence"], usage["mean_load_seconds"]) == (0.75, 0.5)
        assert usage["first_used"] is not None
        feedback = found["feedback"]
        assert (feedback["ratings"]["count"], feedback["ratings"]["mean"]) == (1, 4)
        assert feedback["criteria"]["style"]["mean"] == 5
        assert (feedback["preferences"]["wins"], feedback["preferences"]["losses"]) == (1, 1)
        assert feedback["against_base"]["wins"] == 1
        fresh = (await details_of(catalog, "sql@2")).as_json()
        assert fresh["provenance"] is None
        assert fresh["usage"]["mean_confidence"] is None
        assert fresh["feedback"]["against_base"] is None
        await catalog.delete("sql@2")
        with pytest.raises(AdapterNotFoundError, match="was deleted"):
            await details_of(catalog, "sql@2")


@both_backends
async def test_whether_it_is_loaded_is_known_where_a_model_runs(tmp_path: Path) -> None:
    async with AdapterCatalog(tmp_path / "r.db") as catalog:
        await catalog.register(newcomer(adapter(tmp_path / "made"), "sql@1"))
        assert (await details_of(catalog, "sql")).as_json()["loaded"] is False
        catalog.live.mark_loaded("sql@1")
        assert (await details_of(catalog, "sql")).as_json()["loaded"] is True
        assert "loaded" not in (await details_of(catalog, "sql", live=False)).as_json()
