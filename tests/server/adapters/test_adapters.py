"""The registry's operations over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from intrinsic.registry.catalog import AdapterCatalog
from tests import tiny
from tests.server.asking import has_left, output, refused
from tests.server.serving import Served, serving

PATH = "/v1/adapters"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, catalog=True) as one:
        yield one


@pytest.fixture
def admin(served: Served) -> Iterator[httpx.Client]:
    with served.admin() as one:
        yield one


def write(folder: Path, name: str, *, seed: int = 50, **card: object) -> Path:
    path = folder / "adapters" / f"{name}-{card.get('version', 1)}"
    card = {"name": name, **card}
    return tiny.write_adapter(
        path, tiny.llama(), seed=seed, card=card, base_model_name_or_path="tiny-llama"
    )


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def keys(client: httpx.Client, **asked: Any) -> list[str]:
    return [one["key"] for one in ok(client.get(PATH, params=asked))["data"]]


def offered(served: Served) -> list[str]:
    return [entry.key for entry in served.service.system.registry.list_adapters()]


def test_adapters_are_listed_filtered_and_paged(served: Served, admin: httpx.Client) -> None:
    with served.client() as plain:
        page = ok(plain.get(PATH))
        assert (page["object"], page["total"], page["offset"], page["limit"]) == ("list", 4, 0, 100)
        first = page["data"][0]
        assert {
            field: first[field] for field in ("key", "name", "version", "active", "loaded")
        } == {
            "key": "a@1",
            "name": "a",
            "version": "1",
            "active": True,
            "loaded": False,
        }
        assert first["path"] == "a"
        assert keys(plain, name="[bc]") == []
        assert keys(plain, name="?", limit=2, offset=1) == ["b@1", "c@1"]
        assert keys(plain, domain="LETTER D") == ["d@1"]
        assert keys(plain, descending=True, limit=1) == ["d@1"]
        admin.post(f"{PATH}/a/deactivate")
        assert keys(plain, active=False) == ["a@1"]
        for asked in ({"limit": 0}, {"sort": "beauty"}, {"offset": -1}, {"active": "maybe"}):
            refused(plain.get(PATH, params=asked), 400, "invalid_request")


def test_an_adapter_is_shown_with_all_that_is_known_and_no_path(
    served: Served, admin: httpx.Client, tmp_path: Path
) -> None:
    answer = admin.get(f"{PATH}/b@1")
    found = ok(answer)
    assert (found["key"], found["path"], found["base_model"]) == ("b@1", "b", "tiny-llama")
    assert found["files"]["rank"] == [4]
    assert found["usage"]["generated"] == 0
    assert found["feedback"]["ratings"]["count"] == 0
    assert str(tmp_path) not in answer.text
    refused(admin.get(f"{PATH}/nobody"), 404, "not_found")
    refused(admin.get(f"{PATH}/b@7"), 404, "not_found")
    refused(admin.get(f"{PATH}/a%00b"), 400, "invalid_request")


def test_provenance_is_for_admins_and_has_no_path(
    served: Served, admin: httpx.Client, tmp_path: Path
) -> None:
    folder = write(tmp_path, "trained")
    data = {"name": "x", "location": f"{tmp_path}/x.jsonl"}
    said = {"trainer": "intrinsic train", "data": data}
    (folder / "provenance.json").write_text(json.dumps(said))
    ok(admin.post(PATH, json={"path": folder.name}), 201)
    found = admin.get(f"{PATH}/trained")
    assert found.json()["provenance"]["data"]["location"] == "x.jsonl"
    assert found.json()["trained_here"] is True
    with served.client() as plain:
        assert ok(plain.get(f"{PATH}/trained"))["provenance"] is None


def test_a_new_version_is_registered_activated_and_served(
    served: Served, admin: httpx.Client, tmp_path: Path
) -> None:
    folder = write(tmp_path, "a", version="2")
    before = output(served, "a")
    found = ok(admin.post(PATH, json={"path": str(folder), "domain": "letters", "copy": True}), 201)
    assert (found["key"], found["active"], found["domain"], found["copied"]) == (
        *("a@2", False, "letters"),
        True,
    )
    assert output(served, "a") == before
    said = ok(admin.post(f"{PATH}/a@2/activate"))
    assert said == {"activated": "a@2", "deactivated": ["a@1"], "near": "device", "why": ""}
    assert offered(served) == ["a@2", "b@1", "c@1", "d@1"]
    assert output(served, "a") == output(served, "a@2") != before
    assert has_left(served, "a@1")
    said = ok(admin.post(f"{PATH}/a@1/activate", json={"keep_others": True, "preload": False}))
    assert (said["deactivated"], said["near"]) == ([], "")
    assert offered(served)[:2] == ["a@1", "a@2"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"path": "a"}, 409),
        ({"path": "nothing"}, 404),
        ({"path": "../adapters.db"}, 404),
        ({"path": "/etc"}, 404),
        ({"path": "a", "name": "base"}, 400),
        ({"path": "a", "name": "x@y"}, 400),
        ({"path": "a", "version": ""}, 400),
        ({"path": "a", "keywords": "x"}, 400),
        ({"path": "hollow"}, 400),
        ({}, 400),
    ],
)
def test_what_cannot_be_registered_changes_nothing(
    served: Served, admin: httpx.Client, tmp_path: Path, body: dict[str, Any], status: int
) -> None:
    (tmp_path / "adapters" / "hollow").mkdir()
    answer = admin.post(PATH, json=body)
    kind = {400: "invalid_request", 404: "not_found", 409: "conflict"}[status]
    assert str(tmp_path) not in refused(answer, status, kind)
    assert keys(admin) == ["a@1", "b@1", "c@1", "d@1"]


def test_the_name_of_a_model_is_looked_up_nowhere(
    served: Served, admin: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text(json.dumps({"model_type": "hidden"}))
    write(tmp_path, "sql")
    body = {"path": "sql-1", "base_model": str(tmp_path / "secret")}
    ok(admin.post(PATH, json=body), 201)
    catalog = served.service.system.catalog
    assert catalog is not None
    assert "hidden" not in str(served.call(catalog.get, "sql").inspection)


def test_fields_of_a_card_are_replaced_and_routing_sees_them(
    served: Served, admin: httpx.Client
) -> None:
    change = {"description": "Knows whales.", "keywords": ["whale"], "threshold": 0.25}
    found = ok(admin.patch(f"{PATH}/c", json=change))
    assert {field: found[field] for field in change} == change
    assert found["domain"] == "letter c"
    card = served.service.system.registry.get_adapter("c").card
    assert (card.description, card.threshold) == ("Knows whales.", 0.25)
    assert ok(admin.patch(f"{PATH}/c", json={"threshold": None}))["threshold"] is None
    assert ok(admin.patch(f"{PATH}/c", json={}))["description"] == "Knows whales."
    for bad in ({"threshold": 2}, {"keywords": "x"}, {"description": "\0"}):
        refused(admin.patch(f"{PATH}/c", json=bad), 400, "invalid_request")
    slip = {"keywords": ["whale"], "descripton": "x"}
    sentence = refused(admin.patch(f"{PATH}/c", json=slip), 400, "invalid_request")
    assert sentence.startswith("descripton (body) is not known here; /docs lists")
    sentence = refused(admin.get(PATH, params={"actve": "true"}), 400, "invalid_request")
    assert sentence.startswith("actve (query) is not known here")
    sentence = refused(admin.get(PATH, params={"active": "perhaps"}), 400, "invalid_request")
    assert sentence == "active (query) is not valid: input should be true or false"
    refused(admin.patch(f"{PATH}/nobody", json={}), 404, "not_found")
    events = [one["event"] for one in ok(admin.get(f"{PATH}/c/history"))["data"]]
    assert events == ["registered", "activated", "card", "card"]


def test_a_version_is_switched_off_and_requests_that_run_finish_with_it(
    served: Served, admin: httpx.Client
) -> None:
    system = served.service.system

    async def held() -> bool:
        async with system.manager.lease("b") as lease:
            async with httpx.AsyncClient(base_url=served.url, headers=admin.headers) as client:
                assert (await client.post(f"{PATH}/b/deactivate")).status_code == 200
            await lease.generate("x")
            return "b@1" in system.registry.loaded_adapters

    assert served.call(held)
    assert offered(served) == ["a@1", "c@1", "d@1"]
    assert has_left(served, "b@1")
    assert ok(admin.post(f"{PATH}/b/deactivate")) == {"deactivated": []}
    refused(admin.post(f"{PATH}/nobody/deactivate"), 404, "not_found")


def test_all_versions_of_a_name_are_renamed(served: Served, admin: httpx.Client) -> None:
    output(served, "b")
    assert ok(admin.post(f"{PATH}/b/rename", json={"new_name": "bb"})) == {"renamed": ["bb@1"]}
    assert offered(served) == ["a@1", "bb@1", "c@1", "d@1"]
    refused(admin.get(f"{PATH}/b"), 404, "not_found")
    refused(admin.post(f"{PATH}/a/rename", json={"new_name": "bb"}), 409, "conflict")
    for name in ("auto", "base", "tiny-llama", "", "x@1"):
        body = {"new_name": name}
        refused(admin.post(f"{PATH}/a/rename", json=body), 400, "invalid_request")
        body = {"path": "a", "name": name}
        refused(admin.post(PATH, json=body), 400, "invalid_request")


def test_what_is_deleted_is_gone_for_ever(
    served: Served, admin: httpx.Client, tmp_path: Path
) -> None:
    write(tmp_path, "a", version="2")
    ok(admin.post(PATH, json={"path": "a-2"}), 201)
    refused(admin.delete(f"{PATH}/a"), 400, "invalid_request")
    assert ok(admin.delete(f"{PATH}/a@2")) == {"deleted": "a@2"}
    assert ok(admin.delete(f"{PATH}/a")) == {"deleted": "a@1"}
    refused(admin.delete(f"{PATH}/a@1"), 404, "not_found")
    assert offered(served) == ["b@1", "c@1", "d@1"]
    assert keys(admin, deleted=True, name="a") == ["a@1", "a@2"]


def test_use_is_counted(served: Served, admin: httpx.Client) -> None:
    output(served, "a")
    said = ok(admin.get(f"{PATH}/a/statistics"))
    assert (said["key"], said["usage"]["generated"], said["usage"]["loads"]) == ("a@1", 1, 1)
    assert said["device_bytes"] > 0
    refused(admin.get(f"{PATH}/nobody/statistics"), 404, "not_found")


def test_outputs_are_rated_preferred_and_compared(served: Served, admin: httpx.Client) -> None:
    with served.client() as plain:
        rating = {"rating": 5, "criteria": {"style": 4}, "tags": ["t"], "rater": "me"}
        said = ok(plain.post(f"{PATH}/a/rate", json=rating))
        assert (said["adapter"], said["rating"]) == ("a@1", 5)
        assert ok(plain.post(f"{PATH}/base/rate", json={"rating": 1}))["adapter"] == "base"
        vote = {"a": "a", "b": "base", "outcome": "a"}
        said = ok(plain.post(f"{PATH}/prefer", json=vote))
        assert (said["a"], said["b"], said["outcome"]) == ("a@1", "base", "a")
        found = ok(plain.get(f"{PATH}/a/compare", params={"version": ["1", "b@1"]}))
        summaries = {one["version"]: one for one in found["versions"]}
        assert summaries["1"]["ratings"]["mean"] == 5.0
        assert summaries["1"]["preferences"]["wins"] == 1
        assert summaries["b@1"]["ratings"]["count"] == 0
        assert found["sentences"]
        for path, body, status, kind in (
            ("a/rate", {"rating": 6}, 400, "invalid_request"),
            ("a/rate", {"rating": 3, "criteria": {"style": 9}}, 400, "invalid_request"),
            ("nobody/rate", {"rating": 3}, 404, "not_found"),
            ("prefer", {"a": "a", "b": "a@1", "outcome": "a"}, 400, "invalid_request"),
            ("prefer", {"a": "a", "b": "base", "outcome": "c"}, 400, "invalid_request"),
        ):
            refused(plain.post(f"{PATH}/{path}", json=body), status, kind)
        refused(plain.get(f"{PATH}/a@1/compare"), 400, "invalid_request")
        twice = {"version": ["1", "1"]}
        refused(plain.get(f"{PATH}/a/compare", params=twice), 400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""),
        ("PATCH", "/a"),
        ("DELETE", "/a"),
        ("POST", "/a/activate"),
        ("POST", "/a/deactivate"),
        ("POST", "/a/rename"),
    ],
)
def test_changing_what_others_get_needs_the_admin_key(
    served: Served, method: str, path: str
) -> None:
    body = {"path": "a", "new_name": "x"} if method != "DELETE" else None
    with served.client() as plain, served.client(key=None) as nobody:
        refused(plain.request(method, PATH + path, json=body), 403, "permission_error")
        refused(nobody.request(method, PATH + path, json=body), 401, "authentication_error")


def test_without_a_registry_what_can_be_read_is_read_and_the_rest_says_what_it_needs(
    tmp_path: Path,
) -> None:
    write(tmp_path, "sql", domain="letter a")
    with serving(tmp_path) as served, served.admin() as client:
        assert keys(client) == ["a@1", "b@1", "c@1", "d@1", "sql@1"]
        assert keys(client, name="s*") == ["sql@1"]
        assert keys(client, name="*.") == []
        assert keys(client, name="[a-z]") == []
        assert keys(client, name="*s" * 100 + "?") == []
        assert keys(client, domain="Letter A", descending=True) == ["sql@1", "a@1"]
        assert keys(client, base_model="tiny-llama", active=True) == ["sql@1"]
        assert keys(client, limit=1, offset=1) == ["b@1"]
        refused(client.get(PATH, params={"trained_here": True}), 409, "conflict")
        found = ok(client.get(f"{PATH}/sql"))
        assert (found["key"], found["path"], found["usage"]) == ("sql@1", "sql-1", None)
        refused(client.get(f"{PATH}/nobody"), 404, "not_found")
        said = ok(client.get(f"{PATH}/sql/statistics"))
        assert (said["device_bytes"], said["usage"]) == (0, None)
        calls: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
            ("POST", "", {"path": "sql-1"}),
            ("PATCH", "/a", {}),
            ("DELETE", "/a", None),
            ("POST", "/a/activate", None),
            ("POST", "/a/deactivate", None),
            ("POST", "/a/rename", {"new_name": "x"}),
            ("POST", "/a/rate", {"rating": 1}),
            ("POST", "/prefer", {"a": "a", "b": "b", "outcome": "a"}),
            ("GET", "/a/history", None),
            ("GET", "/a/compare", None),
        )
        for method, path, body in calls:
            sentence = refused(client.request(method, PATH + path, json=body), 409, "conflict")
            assert "--registry" in sentence


def test_a_name_may_have_a_slash(served: Served, admin: httpx.Client, tmp_path: Path) -> None:
    tiny.write_adapter(tmp_path / "adapters" / "s", tiny.llama(), seed=51, card={"name": "team/x"})
    ok(admin.post(PATH, json={"path": "s", "base_model": "tiny-llama"}), 201)
    assert ok(admin.get(f"{PATH}/team/x"))["key"] == "team/x@1"
    assert ok(admin.get(f"{PATH}/team%2Fx@1/history"))["data"][0]["name"] == "team/x"
    assert ok(admin.post(f"{PATH}/team/x/deactivate")) == {"deactivated": ["team/x@1"]}


def test_what_another_process_switches_off_leaves_memory(served: Served, tmp_path: Path) -> None:
    output(served, "a")
    system = served.service.system

    async def switch_off() -> None:
        heard = anyio.Event()
        with system.bus.on("adapter.deactivated", lambda _: heard.set()):
            async with AdapterCatalog(tmp_path / "adapters.db") as other:
                await other.deactivate("a@1")
            with anyio.fail_after(20):
                await heard.wait()

    assert "a@1" in system.manager.get_near_adapters()
    served.call(switch_off)
    assert has_left(served, "a@1")
    assert offered(served) == ["b@1", "c@1", "d@1"]
