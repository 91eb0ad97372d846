"""Words and stems."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import Stemmer
from hypothesis import example, given
from hypothesis import strategies as st

from intrinsic.routing.text import readable, stems, words


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a flawless plan", "law"),
        ("the courtyard", "court"),
        ("a classic", "class"),
        ("she is courteous", "court"),
        ("therapist", "the rapist"),
        ("scunthorpe", "thorp"),
    ],
)
def test_a_part_of_a_word_is_not_the_word(text: str, word: str) -> None:
    assert not set(stems(text)) & set(stems(word))


def test_forms_of_a_word_have_one_stem() -> None:
    for forms in ("law laws law's", "contract contracts contracted", "bake baking bakes baked"):
        assert len(set(stems(forms))) == 1


def test_stop_words_say_nothing() -> None:
    assert stems("what is the of and how do I") == []
    assert stems("don't what's I'll we've o'clock") == ["oclock"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Naïve CAFÉ", ["naive", "cafe"]),
        ("Straße", ["strasse"]),
        ("snake_case-words, and/or", ["snake", "case", "words", "and", "or"]),
        ("O’Brien’s dog", ["obrien", "dog"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("日本語", ["日本", "本語"]),
        ("日", ["日"]),
        ("pythonで書く!", ["python", "で書", "書く"]),
        ("書くpython", ["書く", "python"]),
        ("ﬁne ２ x²", ["fine", "2", "x2"]),
        ("’’ \x00\x1f \ud800", []),
        ("", []),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text("ab's -1.", max_size=12))
@example("rock''n''roll")
def test_another_script_beside_it_changes_no_word(text: str) -> None:
    assert words(f"{text} ж") == [*words(text), "ж"]


@given(st.text())
def test_any_text_has_words_that_are_words(text: str) -> None:
    for word in words(text):
        assert word
        assert not any(char.isspace() for char in word)
    assert words(text) == words(text.upper().lower()) or not text.isascii()


def test_a_very_long_word_is_cut() -> None:
    assert [len(stem) for stem in stems("x" * 100_000)] == [40]


def test_readable_drops_what_nobody_sees() -> None:
    assert readable(" a\x00b\u200b\ud800 ") == "a b"
    assert readable(" \t\n\x07\ufeff") == ""
    assert readable("a\nb") == "a b"


def test_stemming_in_many_threads_is_the_same() -> None:
    texts = [
        " ".join(f"running{i}x{n} bakeries{i}x{n} flawlessly{i}x{n}s" for i in range(300))
        for n in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(stems, texts))
    stemmer = Stemmer.Stemmer("english")
    assert found == [[stemmer.stemWord(word) for word in words(text)] for text in texts]
