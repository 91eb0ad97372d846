"""The bytes of single tokens, which need not be whole characters."""

from __future__ import annotations

import re
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class TokenTexts:
    """Token ids to bytes for one tokenizer: byte-level BPE, SentencePiece, or whatever else.

    The bytes of a text's tokens join to its UTF-8; special tokens, which texts are read without,
    are in `unread` and have the bytes of their names.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._known: dict[int, bytes] = {}
        decoder = repr(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None))
        self._bytes_of_characters = _byte_level() if "ByteLevel" in decoder else {}
        self._marks_spaces = _SPACE in decoder or "Metaspace" in decoder
        added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
        self._added = frozenset(added)
        self.unread = frozenset(token for token, one in added.items() if one.special)

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token; none where the model has more tokens than the tokenizer."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._look_up(token)
        return found

    def text_of(self, token: int) -> str:
        """The text of a token; a replacement character stands for a part of one."""
        return self.bytes_of(token).decode(errors="replace")

    def _look_up(self, token: int) -> bytes:
        name = self._tokenizer.convert_ids_to_tokens(token)
        if not isinstance(name, str):
            return b""
        if token in self._added:
            return name.encode()
        table = self._bytes_of_characters
        if table and all(character in table for character in name):
            return bytes(table[character] for character in name)
        if byte := _BYTE.fullmatch(name):
            return bytes([int(byte[1], 16)])
        if self._marks_spaces:
            return name.replace(_SPACE, " ").encode()
        return str(self._tokenizer.decode([token])).encode()


def _byte_level() -> dict[str, int]:
    """The printable character that byte-level BPE writes for each byte (Radford et al. 2019).

    Bytes that are printable in Latin-1 stand for themselves, the others are counted from 256 on.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    table = {chr(byte): byte for byte in plain}
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}
