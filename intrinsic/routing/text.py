"""Words and stems: what keyword matching compares, so that "flawless" is not law."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import Stemmer

_ASCII_WORD = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
_QUOTES = re.compile("'{2,}")
_UNSPACED = re.compile(  # scripts that put no space between words: Thai to Khmer, kana, Han
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060\ufeff\ud800-\udfff]+")
_LONGEST_WORD = 40
_CONTRACTED = frozenset({"s", "t", "re", "ve", "ll", "d", "m"})

_STOP_WORDS = """
    a about after again all also am an and any are aren as at be because been before being both
    but by can cannot could couldn did didn do does doesn doing don down during each few for from
    further had hadn has hasn have haven having he her here hers him himself his how i if in into
    is isn it its itself just let me might more most must mustn my myself no nor not now of off on
    once only or other our ours out over own please same shall she should shouldn so some such
    than that the their theirs them themselves then there these they this those through to too
    under until up us very was wasn we were weren what when where which while who whom whose why
    will with won would wouldn you your yours yourself yes
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that say nothing of the subject."""

_stemmers = threading.local()  # a stemmer keeps state between calls


def words(text: str) -> list[str]:
    """Return the words of `text` without case and accents, divided by all that is no letter.

    Runs of scripts that put no space between words come out as overlapping pairs of characters.
    """
    folded = text.casefold()
    if not folded.isascii():
        folded = _ACCENTS.sub("", unicodedata.normalize("NFKD", folded))
        folded = unicodedata.normalize("NFC", folded).casefold()
    if folded.isascii():
        return [_uncontracted(word) for word in _ASCII_WORD.findall(folded)]
    found: list[str] = []
    for word in _QUOTES.sub(" ", "".join(map(_letter_or_space, folded))).split():
        if word := word.strip("'"):
            found.extend(_pairs(word) if _UNSPACED.search(word) else [_uncontracted(word)])
    return found


def stems(text: str) -> list[str]:
    """Return the stems of the words of `text` that are no stop words, in order, repeats kept."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


def wording(text: str) -> list[str]:
    """Return the stems of all words, small ones too, and of every two neighbours.

    Begin and end count as neighbours: "how do i" asks for another thing than "what is".
    """
    return _worded(words(text))


def stems_and_wording(text: str) -> tuple[list[str], list[str]]:
    """Return what `stems` and `wording` do, having read the text once."""
    said = words(text)
    return [stem(word) for word in said if word not in STOP_WORDS], _worded(said)


def _worded(said: Sequence[str]) -> list[str]:
    found = [stem(word) for word in said]
    ends = ["^", *found, "$"]
    return [*found, *(f"{one} {other}" for one, other in pairwise(ends))] if found else []


def stem(word: str) -> str:
    """Return the stem of one word that `words` gave; what is too long for a word is cut."""
    return _stem(word[:_LONGEST_WORD])


def readable(text: str) -> str:
    """Return `text` with control characters and lone surrogates as spaces, without outer ones."""
    return _UNREADABLE.sub(" ", text).strip()


def _letter_or_space(char: str) -> str:
    if char.isalnum() or unicodedata.category(char).startswith("M"):
        return char
    return "'" if char in "'’ʼ" else " "


def _uncontracted(word: str) -> str:
    if "'" not in word:
        return word
    base, _, tail = word.rpartition("'")
    return (base if tail in _CONTRACTED else word).replace("'", "")


def _pairs(word: str) -> list[str]:
    found: list[str] = []
    end = 0
    for run in _UNSPACED.finditer(word):
        found.extend(part for part in [word[end : run.start()].replace("'", "")] if part)
        chars = run.group()
        found.extend(chars[i : i + 2] for i in range(max(1, len(chars) - 1)))
        end = run.end()
    found.extend(part for part in [word[end:].replace("'", "")] if part)
    return found


@lru_cache(maxsize=32_768)
def _stem(word: str) -> str:
    if not hasattr(_stemmers, "english"):
        _stemmers.english = Stemmer.Stemmer("english")
    return str(_stemmers.english.stemWord(word))
