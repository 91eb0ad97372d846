"""Hostile checkpoints are read or refused in words: nothing else, whatever the bytes.

Here 200 mutations of a sound checkpoint are tried, the same at every run. To search further:

    FUZZ_EXAMPLES=10000 python -m pytest tests/lora/test_fuzz.py
"""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intrinsic.engine import LoraEngine
from intrinsic.errors import AdapterError, CheckpointError, UnsupportedAdapterError
from intrinsic.lora import LoraCheckpoint, read_checkpoint
from intrinsic.registry import AdapterRegistry
from tests.tiny import llama, write_adapter, write_files

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
PATIENCE_S = 20
WORDS = 2000
"""How long one case may take, and how long a message may be beside the path."""

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=PATIENCE_S * 1000,
    suppress_health_check=list(HealthCheck),
    database=None,
)
# `re` warns of odd character sets in a pattern that it then reads as it always did.
pytestmark = pytest.mark.filterwarnings("ignore:Possible (nested|set):FutureWarning")

Header = dict[str, Any]

MODULE = "base_model.model.model.layers.0.self_attn"
CONFIG: dict[str, object] = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "bias": "none",
    "target_modules": ["q_proj", "v_proj"],
    "layers_to_transform": [0],
    "rank_pattern": {},
    "alpha_pattern": {"v_proj": 16},
    "use_rslora": False,
}
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I8": 1, "BOOL": 1, "F8_E4M3": 1}


def sound_header() -> Header:
    """The tensors of two projections of the tiny Llama, one after the other."""
    header: Header = {}
    at = 0
    for name, width in (("q_proj", 32), ("v_proj", 16)):
        for side, shape in (("A", [4, 32]), ("B", [width, 4])):
            size = math.prod(shape) * 4
            header[f"{MODULE}.{name}.lora_{side}.weight"] = {
                "dtype": "F32",
                "shape": shape,
                "data_offsets": [at, at + size],
            }
            at += size
    return header


BODY = torch.randn(2 * 128 + 128 + 64, generator=torch.Generator().manual_seed(0)).numpy().tobytes()


def pack(header: Header | bytes, body: bytes = BODY, length: int | None = None) -> bytes:
    """A safetensors file, with a header of its own length or of a claimed one."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


NUMBERS = st.one_of(
    st.integers(-2, 40),
    st.sampled_from([2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400]),
    st.floats(),
    st.booleans(),
)
TEXT = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(["", "\0", "\u202e", "é" * 300, "../../etc/passwd", "q_proj", "x" * 5000]),
)
PATTERN_PARTS = st.one_of(
    st.sampled_from("()[]{}|*+?.^$\\-,:=!<>ab_019é"),
    st.sampled_from([".*", r"\.", r"\d+", r"\b", r"\1", "(a|b)*", "layers", "q_proj"]),
    st.sampled_from(["(?:", "(?=", "(?!", "(?i)", "(?P<index>", "{0}", "{999}", "{2,65535}"]),
)
PATTERNS = st.lists(PATTERN_PARTS, max_size=14).map("".join)
JSON = st.recursive(
    st.one_of(st.none(), NUMBERS, TEXT, PATTERNS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
RANKS = st.dictionaries(PATTERNS | TEXT, NUMBERS, max_size=4)
KEYS = st.one_of(
    st.sampled_from(sorted(CONFIG)),
    st.sampled_from(["exclude_modules", "layers_pattern", "base_model_name_or_path", "card"]),
    st.sampled_from(["use_dora", "lora_bias", "init_lora_weights", "loftq_config", "use_qalora"]),
)


@st.composite
def configs(draw: st.DrawFn) -> bytes:
    """A config with some values of other kinds, other keys, or more depth than anyone needs."""
    changes = draw(st.dictionaries(KEYS | TEXT, JSON | RANKS | PATTERNS, max_size=3))
    raw = json.dumps({**CONFIG, **changes}, ensure_ascii=draw(st.booleans())).encode(
        "utf-8", "surrogatepass"
    )
    if draw(st.integers(0, 9)) == 0:
        deep = draw(st.integers(1, 20_000))
        raw = raw[:-1] + b', "deep": ' + b"[" * deep + b"]" * draw(st.integers(0, deep)) + b"}"
    return raw


@st.composite
def mutated(draw: st.DrawFn, raw: bytes) -> bytes:
    """The bytes with some flipped, some cut out or put in, or the end missing."""
    data = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "end"])):
            case "flip" if data:
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 64))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case _:
                del data[at:]
    return bytes(data)


NAMES = st.one_of(
    TEXT,
    st.sampled_from(
        [f"{MODULE}.q_proj.lora_{end}" for end in ("A.default.weight", "B.bias", "C.weight", "A")]
        + [f"{MODULE}.embed_tokens.lora_embedding_A", f"{MODULE}.q_proj.lora_magnitude_vector"]
        + [f"{MODULE}.\n.lora_A.weight", ".lora_A.weight", f"{'a.' * 2000}lora_A.weight"]
    ),
)


@st.composite
def lying_headers(draw: st.DrawFn) -> bytes:
    """A file whose header claims other names, kinds, shapes and places than its bytes have."""
    header = sound_header()
    for key in draw(st.lists(st.sampled_from(sorted(header)), max_size=3, unique=True)):
        entry = header[key]
        match draw(st.sampled_from(["field", "swap", "drop", "rename", "copy", "own"])):
            case "field":
                field = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
                entry[field] = draw(st.lists(NUMBERS, max_size=4) | JSON)
            case "swap":
                entry["data_offsets"].reverse()
            case "drop":
                del header[key]
            case "rename":
                header[draw(NAMES)] = header.pop(key)
            case "copy":
                header[draw(NAMES)] = dict(entry)
            case _:
                header[draw(TEXT)] = draw(JSON)
    if draw(st.integers(0, 3)) == 0:
        header["__metadata__"] = draw(st.dictionaries(TEXT, TEXT, max_size=3) | JSON)
    length = draw(st.none() | st.integers(0, 2**64 - 1) | st.integers(0, 2000))
    return pack(header, length=length)


@st.composite
def consistent_headers(draw: st.DrawFn) -> bytes:
    """A file that is what its header claims: of any names, kinds and shapes, and any values."""
    header: Header = {}
    at = 0
    sound = [*sound_header(), f"{MODULE}.q_proj.lora_A.default.weight"]
    for key in draw(st.lists(st.sampled_from(sound) | NAMES, max_size=5, unique=True)):
        dtype = draw(st.sampled_from([*SIZES, "F32", "F32", "F4", "F8_E8M0", "C64"]))
        shape = draw(SHAPES)
        size = math.prod(shape) * SIZES.get(dtype, 1)
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    seed = draw(st.binary(min_size=1, max_size=8))
    return pack(header, (seed * (at // len(seed) + 1))[:at])


SHAPES = st.one_of(
    st.sampled_from([[4, 32], [32, 4], [16, 4], [8, 32], [4, 0], [0, 4], [], [1] * 80, [0] * 80]),
    st.lists(st.integers(0, 8), max_size=4),
    st.lists(st.sampled_from([2**31, 2**62, 2**63, 2**64 - 1]), max_size=3).map(
        lambda huge: [0, *huge]
    ),
)
FILES = st.one_of(
    mutated(pack(sound_header())), lying_headers(), consistent_headers(), st.binary(max_size=200)
)
CASES = st.one_of(
    st.tuples(configs(), st.just(pack(sound_header()))),
    st.tuples(st.just(json.dumps(CONFIG).encode()), FILES),
    st.tuples(configs(), FILES),
    st.tuples(configs().flatmap(mutated), st.just(pack(sound_header()))),
)


@contextmanager
def patience() -> Iterator[None]:
    """End a case that hangs, where the system has alarms."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"reading took more than {PATIENCE_S} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def put(folder: Path, config: bytes, data: bytes) -> Path:
    (folder / "adapter_config.json").write_bytes(config)
    (folder / "adapter_model.safetensors").write_bytes(data)
    return folder


def read(folder: Path) -> LoraCheckpoint | AdapterError:
    """What the reader says of a folder; anything but these two kinds of answer is an error."""
    try:
        with patience():
            return read_checkpoint(folder)
    except (CheckpointError, UnsupportedAdapterError) as error:
        text = str(error)
        assert str(folder / "adapter_") in text
        assert len(text) < len(str(folder)) + WORDS
        return error


def load(engine: LoraEngine, checkpoint: LoraCheckpoint) -> str:
    """Load a checkpoint as "a"; where it is refused, in which words."""
    try:
        with patience():
            engine.load(checkpoint, "a")
    except AdapterError as error:
        return str(error)
    return ""


def assert_sound(checkpoint: LoraCheckpoint, size: int) -> None:
    """What was read is what a checkpoint promises, and no larger than its file."""
    assert checkpoint.bytes_used <= size
    for module, factors in checkpoint.factors.items():
        assert factors.A.shape[0] == factors.B.shape[1] == checkpoint.config.rank_of(module)
        assert math.isfinite(factors.scale)
        for factor in (factors.A, factors.B):
            assert factor.dim() == 2
            assert factor.is_floating_point()
            assert torch.isfinite(factor).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def model() -> Any:
    return llama()


def test_the_checkpoint_that_is_mutated_is_sound(folder: Path) -> None:
    found = read(put(folder, json.dumps(CONFIG).encode(), pack(sound_header())))
    assert isinstance(found, LoraCheckpoint)
    assert len(found.factors) == 2
    LoraEngine(llama()).load(found, "a")


@fuzzed
@given(CASES)
def test_any_bytes_are_read_or_refused_in_words_that_name_the_file(
    folder: Path, case: tuple[bytes, bytes]
) -> None:
    found = read(put(folder, *case))
    if isinstance(found, LoraCheckpoint):
        assert_sound(found, len(case[1]))
    assert (folder / "adapter_config.json").read_bytes() == case[0]
    assert (folder / "adapter_model.safetensors").read_bytes() == case[1]


@fuzzed
@given(st.tuples(configs(), FILES | st.just(pack(sound_header()))))
def test_what_was_read_is_loaded_whole_or_refused_and_changes_nothing(
    folder: Path, model: Any, case: tuple[bytes, bytes]
) -> None:
    found = read(put(folder, *case))
    if not isinstance(found, LoraCheckpoint):
        return
    engine = LoraEngine(model)
    if refused := load(engine, found):
        assert str(folder) in refused
        assert engine.loaded == ()
    else:
        engine.unload("a")
    assert engine.bytes_used == 0
    assert not any("forward" in vars(module) for module in model.modules())


@fuzzed
@given(CASES)
def test_reading_takes_a_small_multiple_of_the_files_bytes(
    folder: Path, case: tuple[bytes, bytes]
) -> None:
    put(folder, *case)
    tracemalloc.start()
    try:
        read(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(case[1]) + 100 * len(case[0]) + 2**21


@fuzzed
@given(
    st.sampled_from(sorted(sound_header())),
    st.integers(0, 63),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_one_value_that_is_not_finite_is_refused_by_the_name_of_its_tensor(
    folder: Path, key: str, at: int, bad: float
) -> None:
    first, _ = sound_header()[key]["data_offsets"]
    body = bytearray(BODY)
    struct.pack_into("<f", body, first + 4 * at, bad)
    put(folder, json.dumps(CONFIG).encode(), pack(sound_header(), bytes(body)))
    with pytest.raises(CheckpointError) as refused:
        read_checkpoint(folder)
    assert f"{folder / 'adapter_model.safetensors'}: tensor {key!r}" in str(refused.value)


@fuzzed
@given(st.sampled_from(sorted(sound_header())), st.sampled_from([1, 2, 8, 16, 32, 64]))
def test_another_rank_than_the_declared_one_is_refused_by_the_name_of_its_module(
    folder: Path, key: str, rank: int
) -> None:
    header = sound_header()
    other = math.prod(header[key]["shape"]) // rank
    header[key]["shape"] = [rank, other] if ".lora_A." in key else [other, rank]
    found = read(put(folder, json.dumps(CONFIG).encode(), pack(header)))
    module = key.removeprefix("base_model.model.").partition(".lora_")[0]
    assert isinstance(found, CheckpointError)
    assert f"{module}.lora_A.weight' has rank" in str(found)
    assert "declares 4" in str(found)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    config, weights = (tmp_path / f"adapter_{end}" for end in ("config.json", "model.safetensors"))
    write_files(tmp_path, {})
    weights.unlink()
    os.mkfifo(weights)
    assert "is a pipe or a device" in str(read(tmp_path))
    weights.unlink()
    weights.symlink_to("/dev/zero")
    assert "is a pipe or a device" in str(read(tmp_path))
    config.unlink()
    os.mkfifo(config)
    assert "is a pipe or a device" in str(read(tmp_path))


@pytest.mark.parametrize("header", [b"", json.dumps(sound_header()).encode()], ids=["no", "small"])
def test_a_file_larger_than_its_header_says_is_not_read_into_memory(
    tmp_path: Path, header: bytes
) -> None:
    put(tmp_path, json.dumps(CONFIG).encode(), pack(header, b""))
    weights = tmp_path / "adapter_model.safetensors"
    os.truncate(weights, 2**31)  # a hole: it takes no room on the disk
    tracemalloc.start()
    try:
        found = read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
        weights.unlink()
    assert "is not a sound safetensors file" in str(found)


def test_a_config_of_more_bytes_than_any_adapter_needs_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {})
    (tmp_path / "adapter_config.json").write_bytes(b"[" + b"[]," * 2**21 + b"[]]")
    assert "a config may have 4194304" in str(read(tmp_path))


@pytest.mark.parametrize("empty", ["", "^", r"\b", "(?=m)", "a{0}", "()"])
def test_a_repeat_of_what_is_empty_is_refused_where_it_could_take_hours(
    tmp_path: Path, empty: str
) -> None:
    pattern = f"(?:(?:(?:{empty}){{9999}}){{9999}}){{9999}}"
    found = read(write_files(tmp_path, {}, None, rank_pattern={pattern: 4}))
    assert "could take hours" in str(found)


def test_many_patterns_for_many_modules_are_matched_soon_or_refused(tmp_path: Path) -> None:
    tensors = {}
    for i in range(200):
        tensors[f"m{i}.lora_A.weight"] = torch.ones(4, 1)
        tensors[f"m{i}.lora_B.weight"] = torch.ones(1, 4)
    patterns = {f"x{i}": 4 for i in range(2000)}
    found = read(write_files(tmp_path / "many", tensors, None, rank_pattern=patterns))
    assert isinstance(found, LoraCheckpoint)
    patterns = {f"{i}.*.*": 4 for i in range(2000)}
    found = read(write_files(tmp_path / "slow", tensors, None, rank_pattern=patterns))
    assert "2000 patterns, which is too many" in str(found)


@pytest.mark.parametrize(
    "shape", [[0, 2**63], [2**63, 0], [0, 2**64 - 1], [0, 2**31, 2**31, 2**31]], ids=str
)
def test_shapes_beyond_the_integers_of_torch_are_refused(tmp_path: Path, shape: list[int]) -> None:
    header = sound_header()
    header["huge"] = {"dtype": "F32", "shape": shape, "data_offsets": [len(BODY), len(BODY)]}
    found = read(put(tmp_path, json.dumps(CONFIG).encode(), pack(header)))
    assert "is not a sound safetensors file" in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize("key", ["peft_type", "bias", "init_lora_weights"])
def test_endless_settings_do_not_make_endless_messages(tmp_path: Path, key: str) -> None:
    assert isinstance(
        read(write_files(tmp_path, {}, None, **{key: "olora" * 10**5})), UnsupportedAdapterError
    )


def test_the_home_of_nobody_is_refused_in_words() -> None:
    with pytest.raises(CheckpointError, match="~nobody-of-that-name/a cannot be found"):
        read_checkpoint("~nobody-of-that-name/a")


def test_an_adapter_linked_from_outside_the_adapters_folder_is_refused_by_its_path(
    tmp_path: Path,
) -> None:
    outside = write_adapter(tmp_path / "outside", llama())
    root = tmp_path / "adapters"
    write_adapter(root / "inside", llama())
    (root / "linked").symlink_to(outside)
    registry = AdapterRegistry.from_folder(root)
    assert [entry.name for entry in registry.list_adapters()] == ["inside"]
    assert [problem.path for problem in registry.problems] == [root / "linked"]
    assert str(root / "linked") in registry.problems[0].why


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_file_linked_from_outside_the_adapters_folder_is_refused_by_its_path(
    tmp_path: Path, name: str
) -> None:
    outside = write_adapter(tmp_path / "outside", llama())
    root = tmp_path / "adapters"
    write_adapter(root / "inside", llama())
    linked = write_adapter(root / "linked", llama()) / name
    linked.unlink()
    linked.symlink_to(outside / name)
    registry = AdapterRegistry.from_folder(root)
    assert [entry.name for entry in registry.list_adapters()] == ["inside"]
    assert str(linked) in registry.problems[0].why


def test_links_that_stay_inside_and_a_folder_that_is_a_link_itself_are_followed(
    tmp_path: Path,
) -> None:
    first = write_adapter(tmp_path / "real" / "first", llama())
    second = tmp_path / "real" / "second"
    second.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (second / name).symlink_to(first / name)
    (tmp_path / "adapters").symlink_to(tmp_path / "real")
    registry = AdapterRegistry.from_folder(tmp_path / "adapters")
    assert [entry.name for entry in registry.list_adapters()] == ["first", "second"]
    assert registry.problems == []
    assert isinstance(read(second), LoraCheckpoint)
