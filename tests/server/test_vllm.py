"""vLLM's calls: adapters come and go by name and path, within the server's folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from intrinsic.config.server_options import ServerOptions
from tests import tiny
from tests.server.asking import fingerprint, has_left, output, refused
from tests.server.serving import Served, serving

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where adapters may lie, besides those that the server starts with; and what lies outside."""
    root = tmp_path_factory.mktemp("vllm")
    model = tiny.llama()
    for seed, name in enumerate(("new", "other", "deep/inside"), 11):
        tiny.write_adapter(root / "allowed" / name, model, seed=seed, card={"name": "its own"})
    tiny.write_adapter(root / "outside", model, seed=20)
    (root / "allowed" / "link").symlink_to(root / "outside")
    (root / "allowed" / "up").mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (root / "allowed" / "up" / file).symlink_to(root / "outside" / file)
    (root / "allowed" / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Served]:
    options = ServerOptions(port=0, grace_s=2.0, folders=(folder / "allowed", folder / "adapters"))
    with serving(folder, options=options) as one:
        yield one


@pytest.fixture
def client(shared: Served) -> Iterator[httpx.Client]:
    with shared.admin() as one:
        yield one
        for name in list(shared.service.adapters.runtime.names):
            one.post(UNLOAD, json={"lora_name": name})
        shared.call(shared.service.system.manager.swap, {})


def load(client: httpx.Client, name: str, path: object, **more: object) -> httpx.Response:
    return client.post(LOAD, json={"lora_name": name, "lora_path": str(path), **more})


def names(served: Served) -> list[str]:
    """What is offered to requests."""
    return [entry.name for entry in served.service.system.registry.list_adapters()]


def test_load_and_unload_answer_as_vllm_does(shared: Served, client: httpx.Client) -> None:
    base, weights = output(shared), fingerprint(shared)
    answer = load(client, "mine", "new")
    assert answer.status_code == 200
    assert answer.text == "Success: LoRA adapter 'mine' added successfully."
    assert answer.headers["content-type"].startswith("text/plain")
    assert names(shared) == ["a", "b", "c", "d", "mine"]
    assert output(shared, "mine") != base
    answer = client.post(UNLOAD, json={"lora_name": "mine", "lora_int_id": None})
    assert answer.status_code == 200
    assert answer.text == "Success: LoRA adapter 'mine' removed successfully."
    assert names(shared) == ["a", "b", "c", "d"]
    assert output(shared) == base
    assert fingerprint(shared) == weights


def test_what_is_unloaded_leaves_memory(shared: Served, client: httpx.Client) -> None:
    load(client, "mine", "new")
    manager = shared.service.system.manager
    assert "mine" in {key.partition("@")[0] for key in manager.get_near_adapters()}
    client.post(UNLOAD, json={"lora_name": "mine"})
    assert has_left(shared, "mine")


def test_paths_are_absolute_or_relative_to_a_folder(
    shared: Served, client: httpx.Client, folder: Path
) -> None:
    for name, path in (
        ("one", folder / "allowed" / "new"),
        ("two", "other"),
        ("three", "deep/inside"),
        ("four", folder / "allowed" / "deep" / ".." / "new" / "."),
    ):
        assert load(client, name, path).status_code == 200
    assert output(shared, "one") == output(shared, "four") != output(shared, "two")


@pytest.mark.parametrize(
    "path",
    [
        "{root}/outside",
        "../outside",
        "new/../../outside",
        "link",
        "{root}/allowed/link",
        "up",
        "{root}/nothing",
        "nothing",
        "new/adapter_config.json",
        ".",
        "..",
        "/",
        "~",
        "/etc",
        "file:///etc",
        "new" * 500,
        "{root}",
    ],
)
def test_what_lies_elsewhere_is_not_there(
    shared: Served, client: httpx.Client, folder: Path, path: str
) -> None:
    """In the same words, whether it exists or not, and without a path of the server."""
    asked = path.format(root=folder)
    sentence = refused(load(client, "x", asked), 404, "not_found")
    assert sentence.startswith("no adapter was found at ")
    assert sentence.endswith(
        "; name a folder in one of those that this server offers adapters from"
    )
    assert str(folder) not in sentence
    assert "x" not in names(shared)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"lora_name": "x"},
        {"lora_path": "new"},
        {"lora_name": "", "lora_path": "new"},
        {"lora_name": "x", "lora_path": ""},
        {"lora_name": None, "lora_path": "new"},
        {"lora_name": "x", "lora_path": "a\0b"},
        {"lora_name": "x" * 400, "lora_path": "new"},
        {"lora_name": "x", "lora_path": ["new"]},
        {"lora_name": "x@1", "lora_path": "new"},
        {"lora_name": "auto", "lora_path": "new"},
        {"lora_name": "base", "lora_path": "new"},
        {"lora_name": "tiny-llama", "lora_path": "new"},
        {"lora_name": "x", "lora_path": "empty"},
    ],
)
def test_what_is_not_valid_is_a_400(
    shared: Served, client: httpx.Client, body: dict[str, object], folder: Path
) -> None:
    assert str(folder) not in refused(client.post(LOAD, json=body), 400, "invalid_request")
    assert names(shared) == ["a", "b", "c", "d"]


def test_a_name_that_is_taken_is_a_400_and_an_unknown_one_a_404(
    shared: Served, client: httpx.Client
) -> None:
    assert load(client, "mine", "new").status_code == 200
    before = output(shared, "mine")
    sentence = refused(load(client, "mine", "other"), 400, "invalid_request")
    assert sentence.startswith("The lora adapter 'mine' has already been loaded.")
    refused(load(client, "a", "other"), 400, "invalid_request")
    refused(load(client, "a", "other", load_inplace=True), 400, "invalid_request")
    assert output(shared, "mine") == before
    sentence = refused(client.post(UNLOAD, json={"lora_name": "x"}), 404, "not_found")
    assert sentence == "The lora adapter 'x' cannot be found."
    refused(client.post(UNLOAD, json={}), 400, "invalid_request")


def test_an_adapter_that_cannot_be_loaded_changes_nothing(
    shared: Served, client: httpx.Client, folder: Path
) -> None:
    broken = folder / "allowed" / "broken"
    shutil.copytree(folder / "allowed" / "new", broken)
    (broken / "adapter_model.safetensors").write_bytes(b"\xff" * 100)
    wrong = tiny.write_files(
        folder / "allowed" / "wrong",
        {
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(4, 7),
            "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": torch.ones(9, 4),
        },
        target_modules=["q_proj"],
    )
    load(client, "mine", "new")
    before = output(shared, "mine")
    known = shared.service.system.registry.all_versions()
    refused(load(client, "x", "broken"), 400, "invalid_request")
    refused(load(client, "x", wrong), 409, "conflict")
    refused(load(client, "mine", "broken", load_inplace=True), 400, "invalid_request")
    assert shared.service.system.registry.all_versions() == known
    assert names(shared) == ["a", "b", "c", "d", "mine"]
    assert output(shared, "mine") == before


def test_in_place_the_next_request_gets_the_new_weights_and_the_active_mixture_follows(
    shared: Served, client: httpx.Client, folder: Path
) -> None:
    changing = folder / "allowed" / "changing"
    shutil.copytree(folder / "allowed" / "new", changing)
    load(client, "mine", "changing")
    first = output(shared, "mine")
    first_key = shared.service.system.registry.get_adapter("mine").key
    client.post("/v1/lora/load", json={"loras": [{"name": "mine", "scaling": 0.5}, {"name": "a"}]})
    shutil.copytree(folder / "allowed" / "other", changing, dirs_exist_ok=True)
    answer = load(client, "mine", "changing", load_inplace=True)
    assert answer.text == "Success: LoRA adapter 'mine' added successfully."
    second = output(shared, "mine")
    assert second != first
    assert has_left(shared, first_key)
    assert output(shared) == output(shared, {"mine": 0.5, "a": 1.0})
    load(client, "same", "other")
    assert second == output(shared, "same")
    registry = shared.service.system.registry
    (entry,) = registry.versions("mine")
    assert [key for key in registry.loaded_adapters if "mine" in key] == [entry.key]


def test_a_folder_that_was_written_anew_is_read_anew(
    shared: Served, client: httpx.Client, folder: Path
) -> None:
    again = folder / "allowed" / "again"
    shutil.copytree(folder / "allowed" / "new", again)
    load(client, "mine", "again")
    first = output(shared, "mine")
    client.post(UNLOAD, json={"lora_name": "mine"})
    shutil.copytree(folder / "allowed" / "other", again, dirs_exist_ok=True)
    load(client, "mine", "again")
    assert output(shared, "mine") != first


def test_a_request_that_runs_keeps_what_is_unloaded_or_replaced(
    shared: Served, client: httpx.Client
) -> None:
    load(client, "mine", "new")
    before = output(shared, "mine")

    async def while_held() -> tuple[str, float]:
        async with shared.service.system.manager.lease("mine") as lease:
            await shared.service.adapters.runtime.load("mine", "other", in_place=True)
            await shared.service.adapters.runtime.unload("mine")
            (score,) = await lease.score("say something", ["an answer"])
            return "", score.log_likelihood

    assert shared.call(while_held)[1] == before[1]
    refused(client.post(UNLOAD, json={"lora_name": "mine"}), 404, "not_found")


def test_an_adapter_of_the_folder_can_be_unloaded_and_loaded_again(
    shared: Served, client: httpx.Client, folder: Path
) -> None:
    before = output(shared, "b")
    assert client.post(UNLOAD, json={"lora_name": "b"}).status_code == 200
    assert names(shared) == ["a", "c", "d"]
    refused(load(client, "b", folder / "adapters" / "nobody"), 404, "not_found")
    assert load(client, "b", folder / "adapters" / "b").status_code == 200
    assert output(shared, "b") == before


def test_both_calls_need_the_admin_key(shared: Served, client: httpx.Client) -> None:
    with shared.client() as plain:
        refused(load(plain, "x", "new"), 403, "permission_error")
        refused(plain.post(UNLOAD, json={"lora_name": "a"}), 403, "permission_error")


def test_what_is_in_a_registry_is_not_unloaded(tmp_path: Path) -> None:
    with serving(tmp_path, catalog=True) as served, served.admin() as client:
        sentence = refused(client.post(UNLOAD, json={"lora_name": "a"}), 409, "conflict")
        assert "POST /v1/adapters/a/deactivate" in sentence
        assert load(client, "mine", "b").status_code == 200
        assert output(served, "mine") == output(served, "b")
        assert client.post(UNLOAD, json={"lora_name": "mine"}).status_code == 200
        assert names(served) == ["a", "b", "c", "d"]
