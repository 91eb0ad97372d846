"""The list of models is what may be asked for, and each of them can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intrinsic.config.server_options import ServerOptions
from tests import tiny
from tests.server.openai.asking import TURNS, client, refused
from tests.server.serving import Served, serving


def test_everything_that_may_be_asked_for_is_listed_and_answers(served: Served) -> None:
    with client(served) as asking:
        cards: list[Any] = list(asking.models.list())
        assert [card.id for card in cards] == ["auto", "base", "tiny-llama", "a", "b", "c", "d"]
        for card in cards:
            assert card.object == "model"
            assert card.owned_by == "intrinsic"
            assert card.created > 1_600_000_000
            assert card.max_model_len == 512
            assert asking.models.retrieve(card.id) == card
            answer = asking.chat.completions.create(model=card.id, messages=TURNS, max_tokens=1)
            assert answer.model == card.id
    assert [card.root for card in cards[3:]] == ["a@1", "b@1", "c@1", "d@1"]
    assert {card.parent for card in cards[3:]} == {"tiny-llama"}
    assert {card.parent for card in cards[:3]} == {None}


def test_versions_are_listed_where_there_are_several(tmp_path: Path) -> None:
    options = ServerOptions(port=0, model_name="of-ours")
    with serving(tmp_path, options=options) as served, client(served) as asking:
        model: Any = vars(served.service.system.backend)["model"]
        folder = tiny.write_adapter(
            tmp_path / "a2", model, seed=9, card={"name": "a", "version": "2"}
        )
        served.service.system.registry.register_adapter(folder)
        cards: dict[str, Any] = {card.id: card for card in asking.models.list()}
        assert {"auto", "base", "of-ours", "a", "a@1", "a@2", "b"} <= cards.keys()
        assert "b@1" not in cards
        assert cards["a"].root == "a@2"
        assert str(tmp_path) not in str(cards)


@pytest.mark.parametrize("name", ["base", "auto"])
def test_a_model_may_be_called_like_a_way_to_ask(tmp_path: Path, name: str) -> None:
    with (
        serving(tmp_path, options=ServerOptions(port=0, model_name=name)) as served,
        client(served) as asking,
    ):
        served.call(served.service.system.manager.set_active, {"a": 1.0})
        assert [card.id for card in asking.models.list()][:3] == ["auto", "base", "a"]
        base: Any = asking.chat.completions.create(model="base", messages=TURNS, max_tokens=1)
        assert base.intrinsic["mixture"] == {}
        auto: Any = asking.chat.completions.create(model="auto", messages=TURNS, max_tokens=1)
        assert auto.intrinsic["routed"] is True


def test_mixtures_are_described_and_what_is_unknown_is_not(served: Served) -> None:
    with client(served) as asking:
        mixture: Any = asking.models.retrieve("a:0.5+b@1")
        assert (mixture.id, mixture.root, mixture.parent) == ("a:0.5+b@1", "a@1+b@1", "tiny-llama")
        assert asking.models.retrieve("b@1").id == "b@1"
        sentence = refused(lambda: asking.models.retrieve("nobody"), 404, "not_found")
        assert "unknown model 'nobody'; known: auto, base, tiny-llama, a" in sentence
        refused(lambda: asking.models.retrieve("a/b"), 404, "not_found")
    with served.client() as plain:
        assert plain.get("/v1/models/").status_code == 404
