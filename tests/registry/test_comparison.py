"""Which version is better, and how sure that is: worked examples, and words for too little."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from intrinsic.errors import ConfigError
from intrinsic.registry.comparison import Comparison, compare
from intrinsic.registry.correction import holm, p_in_words
from intrinsic.registry.difference import FEWEST_RATINGS, FEWEST_VOTES
from intrinsic.registry.preferences import Version, Vote, summarise_votes
from intrinsic.registry.ratings import Rating

NEW, OLD = "1.2.0", "1.1.0"


def votes(wins: int, losses: int, ties: int = 0, a: Version = NEW, b: Version = OLD) -> list[Vote]:
    """Votes for `a`, for `b` and for neither, every other one with `b` shown first."""
    given: list[Vote] = []
    for outcome, other, count in (("a", "b", wins), ("b", "a", losses), ("tie", "tie", ties)):
        for nth in range(count):
            shown: Any = (b, a, other) if nth % 2 else (a, b, outcome)
            given.append(Vote(*shown))
    return given


def rated(*values: int) -> list[Rating]:
    return [Rating(value) for value in values]


def of_votes(wins: int, losses: int, ties: int = 0) -> Comparison:
    return compare([NEW, OLD], {}, votes(wins, losses, ties))


def of_ratings(new: Sequence[int], old: Sequence[int]) -> Comparison:
    return compare([NEW, OLD], {NEW: rated(*new), OLD: rated(*old)}, [])


def test_the_sentence_that_people_read() -> None:
    found = of_votes(34, 16)
    difference = found.differences[0]
    assert difference.sentence == "1.2.0 beats 1.1.0: 68 % of 50 decisive votes, p = 0.015"
    assert (difference.n, difference.significant) == (50, True)
    assert difference.effect == pytest.approx(0.18)
    # By hand: twice the sum of C(50, k) for k from 34 to 50, over 2 ** 50.
    assert difference.p == difference.p_corrected == pytest.approx(0.0153467, abs=1e-7)


def test_the_winner_comes_first_in_the_sentence() -> None:
    assert of_votes(16, 34, 5).sentences[0] == (
        "1.1.0 beats 1.2.0: 68 % of 50 decisive votes (5 ties apart), p = 0.015"
    )
    assert of_votes(16, 34).differences[0].effect == pytest.approx(-0.18)


def test_what_may_be_chance_is_said_to_be() -> None:
    found = of_votes(22, 18, 1)
    assert found.sentences[0] == (
        "1.2.0 does not beat 1.1.0 significantly: "
        "55 % of 40 decisive votes (1 tie apart), p = 0.636"
    )
    assert not found.differences[0].significant
    assert "50 % of 40 decisive votes, p = 1.000" in of_votes(20, 20).sentences[0]


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(6, 0, 2 / 2**6), (9, 1, 2 * 11 / 2**10), (8, 2, 2 * 56 / 2**10), (5, 5, 1.0)],
)
def test_votes_are_tested_by_the_exact_binomial_test(wins: int, losses: int, p: float) -> None:
    """The tails by hand: 1, 1 + 10 and 1 + 10 + 45 of the outcomes."""
    assert of_votes(wins, losses, ties=3).differences[0].p == pytest.approx(p)


def test_too_few_votes_are_said_and_not_tested() -> None:
    found = of_votes(3, 0)
    assert found.sentences[0] == (
        "1.2.0 and 1.1.0: 3 decisive votes are too few to tell; "
        "at least 6 are needed for p < 0.05 even if all agree"
    )
    assert (found.differences[0].p, found.differences[0].effect) == (None, 0.5)
    assert found.comparisons == 0
    assert "1 decisive vote is too few" in of_votes(0, 1).sentences[0]
    assert FEWEST_VOTES == 6
    assert of_votes(6, 0).differences[0].significant
    assert of_votes(5, 0).differences[0].p is None


def test_ties_alone_tell_nothing() -> None:
    found = of_votes(0, 0, 9)
    assert found.sentences[0].startswith("1.2.0 and 1.1.0: no vote is decisive (9 ties apart); at")
    assert (found.differences[0].n, found.differences[0].effect) == (0, None)


def test_without_feedback_that_is_what_it_says() -> None:
    found = compare([NEW, OLD], {}, [])
    assert found.sentences == (
        "1.2.0 and 1.1.0: there are no votes between them",
        "1.2.0 and 1.1.0: there are no ratings of 1.2.0 and 1.1.0",
    )
    assert [one.version for one in found.versions] == [NEW, OLD]


def test_ratings_that_differ() -> None:
    found = of_ratings([5, 5, 5, 4, 4, 5, 5, 4], [3, 2, 4, 3, 1, 3, 2, 4])
    difference = found.differences[1]
    assert difference.sentence == (
        "1.2.0 is rated higher than 1.1.0: mean 4.62 against 2.75 of 8 and 8 ratings, "
        "rank-biserial correlation 0.91, p = 0.002"
    )
    # By hand: of 64 pairs 58 are won and 6 (a 4 against a 4) are ties.
    assert difference.effect == pytest.approx(2 * (58 + 6 / 2) / 64 - 1)
    turned = of_ratings([3, 2, 4, 3, 1, 3, 2], [5, 5, 5, 4, 4, 5, 5, 4])
    assert "1.1.0 is rated higher than 1.2.0" in turned.sentences[1]
    assert "of 8 and 7 ratings" in turned.sentences[1]


def test_ratings_that_may_not_differ() -> None:
    found = of_ratings([5, 4, 3, 4], [4, 4, 5, 3, 2])
    assert "1.2.0 is not rated significantly higher than 1.1.0: mean 4.00" in found.sentences[1]
    same = of_ratings([5] * 8, [5] * 12)
    assert same.sentences[1] == (
        "1.2.0 is not rated significantly higher than 1.1.0: all 20 ratings are 5, p = 1.000"
    )
    assert same.differences[1].effect == 0


def test_too_few_ratings_are_said_and_not_tested() -> None:
    found = of_ratings([5, 5, 5], [1, 1])
    assert found.sentences[1] == (
        "1.2.0 and 1.1.0: 3 and 2 ratings are too few to tell; "
        "with 4 of each, p < 0.05 is possible where they do not overlap"
    )
    assert (found.differences[1].p, found.differences[1].effect) == (None, 1.0)
    assert FEWEST_RATINGS == 4
    assert of_ratings([5] * 4, [1] * 4).differences[1].significant
    assert found.differences[1].n == 5
    assert "there are no ratings of 1.1.0" in of_ratings([5] * 9, []).sentences[1]


def test_holm_on_a_worked_example() -> None:
    """Wikipedia, "Holm–Bonferroni method", Example; the same as R's p.adjust(method = "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.04]) == [0.04]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_all_comparisons_are_corrected_together() -> None:
    third = "1.0.0"
    given = votes(34, 16) + votes(30, 20, a=OLD, b=third) + votes(3, 1, a=NEW, b=third)
    ratings = {NEW: rated(*[5] * 6), OLD: rated(*[4] * 6)}
    found = compare([NEW, OLD, third], ratings, given)
    made = [one for one in found.differences if one.p is not None]
    assert found.comparisons == len(made) == 3
    assert [one.p_corrected for one in made] == pytest.approx(holm([one.p or 0 for one in made]))
    assert made[0].p_corrected == pytest.approx(2 * 0.0153467, abs=1e-6)
    assert made[0].sentence.endswith("p = 0.031, corrected for 3 comparisons")


def test_what_is_significant_alone_may_not_be_among_many() -> None:
    versions = [f"1.{n}" for n in range(5)]
    given = [v for b in versions[1:] for v in votes(34, 16, a=versions[0], b=b)]
    alone = compare(versions[:2], {}, given).differences[0]
    among = compare(versions, {}, given).differences[0]
    assert alone.significant
    assert not among.significant
    assert among.p == alone.p


def test_the_base_model_is_compared_where_there_is_feedback() -> None:
    given = votes(18, 4, 2, a=NEW, b=None) + votes(7, 7)
    found = compare([NEW, OLD], {OLD: rated(3, 3, 4, 2), None: rated(1, 1, 1, 2)}, given)
    assert [one.version for one in found.versions] == [NEW, OLD, None]
    sentences = found.sentences
    assert any(s.startswith("1.2.0 beats the base model: 82 % of 22 decisive") for s in sentences)
    assert any("1.1.0 is" in s and "the base model: mean 3.00" in s for s in sentences)
    assert not any("votes" in s and "1.1.0 and the base model" in s for s in sentences)
    new, old, base = found.versions
    assert new.against_base is not None
    assert (new.against_base.wins, new.against_base.losses, new.against_base.ties) == (18, 4, 2)
    assert (new.preferences.wins, new.preferences.losses) == (25, 11)
    assert old.against_base is None
    assert (base.preferences.wins, base.against_base) == (4, None)


def test_one_version_is_compared_with_the_base_alone() -> None:
    found = compare([NEW], {}, votes(1, 8, a=NEW, b=None))
    assert found.sentences == ("the base model beats 1.2.0: 89 % of 9 decisive votes, p = 0.039",)
    assert compare([NEW], {NEW: rated(5, 4)}, []).differences == ()


def test_what_belongs_to_other_versions_is_left_out() -> None:
    given = votes(10, 0) + votes(50, 0, a="0.9", b="0.8")
    found = compare([NEW, OLD], {"0.9": rated(1)}, given)
    assert found.differences[0].n == 10
    assert len(found.versions) == 2


# Newcombe, Statistics in Medicine 17, 1998, pp. 857-872, table I, method 3.
@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_on_published_examples(wins: int, n: int, low: float, high: float) -> None:
    found = summarise_votes(NEW, votes(wins, n - wins, 4))
    assert found.interval == pytest.approx((low, high), abs=5e-5)
    assert (found.win_rate, found.decisive, found.ties) == (wins / n, n, 4)


def test_a_version_without_decisive_votes_has_no_win_rate() -> None:
    found = summarise_votes(NEW, votes(0, 0, 3))
    assert (found.win_rate, found.interval, found.ties) == (None, None, 3)


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.0153467, "p = 0.015"),
        (0.0004, "p < 0.001"),
        (0.04996, "p = 0.04996"),
        (0.0496, "p = 0.0496"),
        (0.05, "p = 0.050"),
        (1.0, "p = 1.000"),
    ],
)
def test_a_p_value_is_never_rounded_across_the_level(p: float, words: str) -> None:
    assert p_in_words(p) == words


def test_as_json_is_plain() -> None:
    ratings = {NEW: [Rating(5, {"style": 4})] * 5, OLD: rated(1, 2, 2, 3)}
    found = compare([NEW, OLD], ratings, votes(34, 16, 1) + votes(1, 0, a=NEW, b=None))
    back = json.loads(json.dumps(found.as_json()))
    assert [one["version"] for one in back["versions"]] == [NEW, OLD, None]
    assert back["versions"][0]["criteria"]["style"]["mean"] == 4
    assert back["versions"][0]["preferences"]["decisive"] == 51
    assert back["comparisons"] == 2
    assert back["sentences"] == [one["sentence"] for one in back["differences"]]


def test_what_is_no_vote_and_no_comparison_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"outcome is 'A'; it must be a, b or tie"):
        Vote(NEW, OLD, "A")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"between '1.2.0' and itself"):
        Vote(NEW, NEW, "tie")
    for versions in ([], [NEW, NEW]):
        with pytest.raises(ConfigError, match="name one or more, each once"):
            compare(versions, {}, [])
