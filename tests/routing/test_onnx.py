"""The int8 form of the bundled encoder beside the model that it is made from."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import anyio
import numpy as np
import pytest

from intrinsic.errors import EncoderError
from intrinsic.routing import EncoderOptions, SentenceEncoder, onnx_model
from intrinsic.routing import encoder as encoder_module
from intrinsic.routing.model_loading import bundled_model
from intrinsic.routing.onnx_export import export, quantised
from intrinsic.routing.onnx_model import OnnxModel, graph_bytes, open_session, run
from intrinsic.routing.pieces import unit_rows
from intrinsic.routing.router import Vectors
from tests.bus.backends import both_backends

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

TEXTS = [
    "how is asthma treated?",
    "",
    "?",
    "book me a flight to Paris",
    "Écrire une fonction qui trie une liste",
    "日本語のテキスト",
    "\ufffd \x00 \t",
    "wordwordword" * 30,
    "what is 15 percent of 80",
    "the quick brown fox jumps over the lazy dog " * 20,
    "Draft a confidentiality clause for a contract between two firms in Delaware.",
    "I would like to know whether my savings account can be used abroad without any fee",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cache")
    graph_bytes(made)
    return made


@pytest.fixture(scope="module")
def int8(folder: Path) -> OnnxModel:
    return OnnxModel(folder, threads=2)


@pytest.fixture(scope="module")
def torch_encoder() -> SentenceEncoder:
    made = SentenceEncoder(options=EncoderOptions(runtime="torch", cache_dir=None))
    anyio.run(made.warm_up)
    return made


def of_both_layers(last: Vectors, middle: Vectors) -> Vectors:
    rows = unit_rows(last, len(last), "") + 0.5 * unit_rows(middle, len(middle), "")
    return unit_rows(rows, len(rows), "")


@both_backends
async def test_it_agrees_with_torch_on_any_text(
    folder: Path, torch_encoder: SentenceEncoder
) -> None:
    encoder = SentenceEncoder(options=EncoderOptions(runtime="onnx", cache_dir=folder))
    long = "one two three four five six seven. " * 200
    ours = await encoder.embed([*TEXTS, long])
    theirs = await torch_encoder.embed([*TEXTS, long])
    assert ours.shape == theirs.shape == (len(TEXTS) + 1, 384)
    cosines = (ours * theirs).sum(axis=1)
    assert cosines.min() > 0.98, cosines
    assert np.mean(cosines) > 0.995
    assert encoder.runtime == "onnx"


def test_in_full_precision_the_graph_is_the_model(torch_encoder: SentenceEncoder) -> None:
    session = open_session(export(bundled_model() / "model.safetensors", int8=False))
    tokenizer = onnx_model._tokenizer()
    found = run(session, [one.ids[:256] for one in tokenizer.encode_batch(TEXTS)])
    theirs = anyio.run(torch_encoder.embed, TEXTS)
    np.testing.assert_allclose(of_both_layers(*found), theirs, atol=2e-5)


def test_a_vector_does_not_depend_on_its_batch(int8: OnnxModel) -> None:
    alone = np.concatenate([int8.encode([text], 32) for text in TEXTS])
    np.testing.assert_allclose(int8.encode(TEXTS, 32), alone, atol=1e-5)
    np.testing.assert_allclose(int8.encode(TEXTS[::-1], 3)[::-1], alone, atol=1e-5)


def test_texts_are_cut_where_torch_cuts_them(
    int8: OnnxModel, torch_encoder: SentenceEncoder
) -> None:
    torch_model = torch_encoder._loaded()
    assert int8.limit == torch_model.limit == 254
    for text in TEXTS:
        assert list(int8.spans(text)) == list(torch_model.spans(text))


def test_weights_are_off_by_half_a_step_at_most() -> None:
    W = np.random.default_rng(0).normal(size=(5, 192)).astype(np.float32)
    W[0, :64] = 0
    blocks, scales = quantised(W)
    assert blocks.shape == (5, 3, 64)
    assert blocks.dtype == np.uint8
    back = (blocks.astype(np.float32) - 128) * scales[..., None]
    error = np.abs(back - W.reshape(5, 3, 64))
    assert (error <= scales[..., None] / 2 + 1e-7).all()


def test_it_is_made_once_and_again_when_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Path] = []

    def make(weights: Path) -> bytes:
        made.append(weights)
        return b"a graph"

    monkeypatch.setattr(onnx_model, "export", make)
    assert graph_bytes(tmp_path) == graph_bytes(tmp_path) == b"a graph"
    (file,) = (tmp_path / "models").iterdir()
    assert len(made) == 1
    for damaged in (b"", file.read_bytes()[:-1], b"x" + file.read_bytes()[1:]):
        file.write_bytes(damaged)
        assert graph_bytes(tmp_path) == b"a graph"
    assert len(made) == 4
    assert caplog.text.count("damaged; it is made again") == 3
    assert graph_bytes(None) == b"a graph"
    assert graph_bytes(file) == b"a graph"
    assert "int8 form is not kept on disk" in caplog.text


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EncoderError, match=r"pip install 'intrinsic-lora\[onnx\]'"):
        export(Path("none"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderError, match=r"pip install 'intrinsic-lora\[onnx\]'"):
        open_session(b"")


def test_an_onnxruntime_that_computes_something_else_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "_KNOWN", (("a", "b", -0.5),))
    with pytest.raises(EncoderError, match=r"gives a cosine of .* is -0\.500; update onnxruntime"):
        OnnxModel(folder)
    with pytest.raises(EncoderError, match="does not take the encoder"):
        open_session(b"no graph")


@both_backends
async def test_auto_falls_back_to_torch_with_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> OnnxModel:
        raise EncoderError("onnxruntime 0.1 does not take the encoder")

    monkeypatch.setattr(encoder_module, "OnnxModel", refuse)
    monkeypatch.setattr(encoder_module, "TorchModel", lambda *_, **__: OnnxModel(None))
    monkeypatch.setattr(SentenceEncoder, "runtime", "torch")
    with caplog.at_level(logging.WARNING):
        await SentenceEncoder(options=EncoderOptions(cache_dir=tmp_path)).warm_up()
    assert "runs in torch: onnxruntime 0.1 does not take the encoder" in caplog.text
    with pytest.raises(EncoderError, match=r"onnxruntime 0\.1 does not"):
        await SentenceEncoder(options=EncoderOptions(runtime="onnx")).warm_up()


@both_backends
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("run", "onnxruntime fails at running the encoder: no such kernel"),
        ("tokenizers", "tokenizers cannot be imported"),
        ("onnxruntime", "onnxruntime cannot be imported"),
    ],
)
async def test_auto_falls_back_whatever_is_broken(
    folder: Path,
    torch_encoder: SentenceEncoder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
    words: str,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such kernel")

    if broken == "run":
        monkeypatch.setattr(onnx_model, "run", fail)
    else:
        monkeypatch.setitem(sys.modules, broken, None)
    torch_model = torch_encoder._loaded()
    monkeypatch.setattr(encoder_module, "TorchModel", lambda *_, **__: torch_model)
    monkeypatch.setattr(encoder_module, "onnx_installed", lambda: True)
    encoder = SentenceEncoder(options=EncoderOptions(cache_dir=folder))
    await encoder.warm_up()
    assert encoder.runtime == "torch"
    assert f"runs in torch: {words}" in caplog.text


def test_onnxruntime_keeps_no_files_of_its_own(tmp_path: Path) -> None:
    code = (
        "import anyio\n"
        "from intrinsic.routing import EncoderOptions, SentenceEncoder\n"
        "encoder = SentenceEncoder(options=EncoderOptions(runtime='onnx'))\n"
        "anyio.run(encoder.warm_up)\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", code], env=env | {"XDG_CACHE_HOME": str(tmp_path)}, check=True
    )
    assert [path.name for path in tmp_path.iterdir()] == ["intrinsic"]


def test_torch_is_not_imported(folder: Path) -> None:
    code = (
        "import sys, anyio\n"
        "from intrinsic.routing import EncoderOptions, SentenceEncoder\n"
        "encoder = SentenceEncoder(options=EncoderOptions(cache_dir=sys.argv[1]))\n"
        "print(anyio.run(encoder.embed_cards, ['a text']).shape, encoder.runtime)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(1, 384) onnx\n[]\n"
