"""The operations that tasks of the hypernetwork's benchmark are made of, and their wordings.

Strings have six letters out of a to j. A task orders them, exchanges each for a sign, and writes
the result in a style. Each operation has wordings that descriptions for training use, and new
ones that nobody is trained on; a new one shares content words with one or more of the old.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

LETTERS = "abcdefghij"
LENGTH = 6


@dataclass(frozen=True)
class Operation:
    """One step of a task: from a string to a string, and how it is said."""

    name: str
    apply: Callable[[str], str]
    wordings: tuple[str, ...]
    new_wordings: tuple[str, ...]


def _places(*places: int) -> Callable[[str], str]:
    return lambda text: "".join(text[place] for place in places)


def _signs(signs: str) -> Callable[[str], str]:
    table = str.maketrans(LETTERS, signs)
    return lambda text: text.translate(table)


ORDERS = (
    Operation(
        "keep",
        _places(0, 1, 2, 3, 4, 5),
        ("keep the order", "leave the order unchanged", "same order as given", "the given order"),
        ("keep the same order", "unchanged order as given"),
    ),
    Operation(
        "reverse",
        _places(5, 4, 3, 2, 1, 0),
        ("reverse it", "write it backwards", "from back to front", "in reversed sequence"),
        ("backwards from the back", "reverse the sequence backwards"),
    ),
    Operation(
        "left",
        _places(1, 2, 3, 4, 5, 0),
        ("rotate left", "turn it leftward by one place", "send the head to the tail", "head last"),
        ("rotate leftward by one", "turn left, the head to the tail"),
    ),
    Operation(
        "right",
        _places(5, 0, 1, 2, 3, 4),
        ("rotate right", "turn it rightward by one place", "bring the tail forward", "tail first"),
        ("rotate rightward by one", "turn right, bring the tail first"),
    ),
    Operation(
        "halves",
        _places(3, 4, 5, 0, 1, 2),
        (
            "swap the halves",
            "second half before the first half",
            "exchange both halves",
            "halves trade",
        ),
        ("trade both halves", "exchange the first and second half"),
    ),
    Operation(
        "neighbours",
        _places(1, 0, 3, 2, 5, 4),
        (
            "swap neighbours",
            "exchange each pair",
            "neighbours trade two by two",
            "flip adjacent pairs",
        ),
        ("flip adjacent neighbours", "swap each pair of neighbours"),
    ),
    Operation(
        "ends",
        _places(5, 1, 2, 3, 4, 0),
        ("swap the ends", "exchange the outer two", "outermost change seats", "the two ends trade"),
        ("exchange the outermost ends", "outer ends change seats"),
    ),
    Operation(
        "odd",
        _places(0, 2, 4, 1, 3, 5),
        ("odd places before even places", "odd then even", "odd positions ahead", "sort by odd"),
        ("odd positions before even", "sort odd places ahead"),
    ),
)

SIGNS = (
    Operation(
        "keep",
        _signs(LETTERS),
        ("keep the letters", "letters stay untouched", "do not alter any letter", "plain letters"),
        ("untouched letters stay", "do not alter letters"),
    ),
    Operation(
        "capitals",
        _signs("ABCDEFGHIJ"),
        ("in capitals", "upper case", "use capital letters", "make them uppercase"),
        ("upper case capitals", "make capital uppercase letters"),
    ),
    Operation(
        "next",
        _signs("bcdefghija"),
        ("the next letter for each", "one step up", "advance every letter", "take the successor"),
        ("advance to the next letter", "take the next, one step up"),
    ),
    Operation(
        "previous",
        _signs("jabcdefghi"),
        ("the previous letter for each", "one step down", "lower every letter", "the predecessor"),
        ("lower to the previous letter", "predecessor, one step down"),
    ),
    Operation(
        "mirror",
        _signs("jihgfedcba"),
        ("mirror the alphabet", "the opposite letter", "reflect each letter", "mirrored letters"),
        ("reflect to the opposite letter", "mirror each letter, opposite"),
    ),
    Operation(
        "leap",
        _signs("cdefghijab"),
        ("jump over one letter", "leap ahead", "skip a letter in between", "a leap of two"),
        ("leap over a letter", "skip one, jump ahead"),
    ),
    Operation(
        "digits",
        _signs("0123456789"),
        ("as digits", "numbers instead of letters", "write each as its number", "numeric code"),
        ("numeric digits", "each letter as number code"),
    ),
    Operation(
        "stars",
        _signs("*bcd*fgh*j"),
        ("stars for vowels", "hide the vowels", "vowels become asterisks", "mask each vowel"),
        ("hide vowels as asterisks", "mask vowels, stars become vowel"),
    ),
)

STYLES = (
    Operation(
        "bare",
        lambda text: text,
        ("nothing added", "without decoration", "bare text", "as it is"),
        ("bare, nothing added", "text without decoration"),
    ),
    Operation(
        "brackets",
        lambda text: f"({text})",
        ("in brackets", "inside parentheses", "wrapped in round brackets", "within parentheses"),
        ("wrapped inside brackets", "in round parentheses"),
    ),
    Operation(
        "dashes",
        "-".join,
        ("joined by dashes", "dashes between", "hyphens in between", "separated with hyphens"),
        ("separated by dashes", "joined with hyphens"),
    ),
    Operation(
        "stop",
        lambda text: f"{text}.",
        ("with a full stop", "a period at the close", "closed by a dot", "finish with a period"),
        ("finish with a full stop", "a dot at the close"),
    ),
)

NEW_SKILL = Operation(
    "partner",
    _signs("badcfehgji"),
    ("the partner letter", "companion of each letter", "letters as partners", "use the companion"),
    ("each companion partner", "use the partner as companion"),
)
"""What the base never saw; the hypernetwork trains on it in some pairs."""

UNKNOWN = Operation(
    "halfway",
    _signs("fghijabcde"),
    ("halfway round the alphabet", "five letters on", "the fifth letter after", "a turn by five"),
    ("five on, halfway round", "the fifth after a turn"),
)
"""What nobody ever trains on."""

TEMPLATES = (
    "{order}, {sign}, {style}",
    "{sign}, {order}, {style}",
    "{style}: {order}, {sign}",
    "{sign} and {order}; {style}",
)
NEW_TEMPLATES = ("please {order} and {sign}, {style}", "text {style}: {sign}; then {order}")

NONSENSE = (
    "what will the weather be in paris tomorrow",
    "play some jazz in the kitchen",
    "who painted the ceiling of the chapel",
    "transfer forty euros to my sister",
    "how do i cook rice without a pot",
    "translate good morning to french",
    "set an alarm for seven",
    "is my flight on time",
    "explain how vaccines work",
    "write a poem about autumn rain",
    "what is the capital of mongolia",
    "book a table for four on friday",
    "why is the sky blue",
    "my printer shows an error again",
    "summarise the meeting of yesterday",
    "how tall is the tallest mountain",
    "find a doctor near the station",
    "turn off the lights in the bedroom",
    "which bus goes to the harbour",
    "convert ten miles to kilometres",
    "who won the cup last year",
    "recommend a book on roman history",
    "the patient complains of a headache",
    "solve the equation for x",
    "remind me to water the plants",
    "is this mushroom safe to eat",
    "draft a letter to the landlord",
    "how many people live in brazil",
    "fix the null pointer in this code",
    "tell me a joke about penguins",
    "what does the contract say about notice",
    "order more coffee beans",
    "when does the museum open",
    "describe the smell of fresh bread",
    "cancel my subscription today",
    "how long do turtles live",
    "the engine makes a strange noise",
    "plan a hike of three hours",
    "what rhymes with orange",
    "sell half of my shares",
    "does the soup contain nuts",
    "name the moons of jupiter",
    "my dog will not eat",
    "calculate the tax on this income",
    "show pictures of old bridges",
    "how does a violin make sound",
    "renew my library card",
    "was the senator elected twice",
    "pack a suitcase for norway",
    "what is a good gift for grandfather",
    "measure the depth of the lake",
    "read the news aloud",
    "which medicine helps against fever",
    "paint the fence next weekend",
    "how do magnets work",
    "call the office and say i am ill",
    "the recipe needs three eggs",
    "where was this film made",
    "prove that the root is irrational",
    "buy tickets for the concert",
    "how cold is it on mars",
    "choose a name for the kitten",
    "grow tomatoes on a balcony",
    "teach me chess openings",
)
"""Queries that no task answers."""
