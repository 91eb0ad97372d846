"""Ids to text: whole characters, and nothing of a stop string, however the ids are cut."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from intrinsic.backends.text_stream import TextStream


class Bytes:
    """A tokenizer with one id per byte, so that characters are cut in pieces."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return bytes(ids).decode("utf-8", errors="replace")


def run(text: str, stop: Sequence[str], size: int) -> tuple[list[str], TextStream]:
    stream = TextStream(Bytes(), stop)
    ids = list(text.encode())
    pieces = [stream.push(ids[at : at + size]) for at in range(0, len(ids), size)]
    return [*pieces, stream.finish()], stream


@given(st.text(alphabet="ab é漢🙂", max_size=30), st.integers(1, 5))
def test_the_pieces_join_to_the_text(text: str, size: int) -> None:
    pieces, stream = run(text, (), size)
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert stream.tokens == len(text.encode())
    assert not stream.stopped


@given(
    st.text(alphabet="abc", max_size=20),
    st.lists(st.text(alphabet="abc", min_size=1, max_size=3), max_size=3),
    st.integers(1, 4),
)
def test_the_text_ends_before_the_first_stop_string(text: str, stop: list[str], size: int) -> None:
    pieces, stream = run(text, stop, size)
    found = "".join(pieces)
    hits = [at for s in stop if (at := text.find(s)) >= 0]
    assert stream.stopped == bool(hits)
    assert not any(s in found for s in stop)
    if hits:
        assert text.startswith(found)
        assert any(text[len(found) :].startswith(s) for s in stop)
    else:
        assert found == text
