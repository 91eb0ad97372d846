"""What decodes how: every field within its limits, and nothing taken over from the caller."""

from __future__ import annotations

from typing import Any

import pytest

from intrinsic.backends import GenerationOptions, RawPrompt
from intrinsic.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("logprobs", -1, "an integer from 0 to 20"),
        ("logprobs", 21, "an integer from 0 to 20"),
        ("logprobs", True, "an integer from 0 to 20"),
        ("logprobs", 2.0, "an integer from 0 to 20"),
        ("frequency_penalty", 2.1, "a number from -2 to 2"),
        ("frequency_penalty", float("nan"), "a number from -2 to 2"),
        ("presence_penalty", -2.1, "a number from -2 to 2"),
        ("presence_penalty", "1", "a number from -2 to 2"),
        ("min_p", -0.1, "a number from 0"),
        ("min_p", 1.1, "a number from 0"),
        ("min_p", True, "a number from 0"),
        ("logit_bias", {-1: 1.0}, "numbers from -100 to 100 by token id"),
        ("logit_bias", {"1": 1.0}, "numbers from -100 to 100 by token id"),
        ("logit_bias", {1: 100.5}, "numbers from -100 to 100 by token id"),
        ("logit_bias", [(1, 1.0)], "numbers from -100 to 100 by token id"),
        ("logit_bias", None, "numbers from -100 to 100 by token id"),
    ],
)
def test_what_is_out_of_limits_is_refused_in_words(field: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field} is .*; it must be {words}"):
        GenerationOptions(**{field: value})


def test_the_limits_themselves_are_within() -> None:
    for sign in (-1, 1):
        GenerationOptions(
            frequency_penalty=2 * sign, presence_penalty=2.0 * sign, logit_bias={0: 100 * sign}
        )
    for logprobs in (None, 0, 20):
        GenerationOptions(logprobs=logprobs, min_p=1)


def test_options_with_biases_can_be_keys() -> None:
    one, two = GenerationOptions(logit_bias={3: 1.0}), GenerationOptions(logit_bias={3: 2.0})
    assert len({one, two, GenerationOptions(logit_bias={3: 1.0})}) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "one of the two"),
        ({"text": "a", "ids": (1,)}, "one of the two"),
        ({"ids": (1, -1)}, "token id -1 of a raw prompt"),
        ({"ids": (1, True)}, "token id True of a raw prompt"),
        ({"ids": ("1",)}, "token id '1' of a raw prompt"),
    ],
)
def test_a_raw_prompt_is_a_text_or_ids(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RawPrompt(**given)
