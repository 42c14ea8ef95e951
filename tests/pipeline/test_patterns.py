"""Regular expressions of conditions."""

from __future__ import annotations

import pytest

from broker.pipeline.patterns import compile_search


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^TEST", "TESTER", True),
        ("^TEST", "A TEST", False),
        (".*urgent.*", "very urgent!", True),
        (".*urgent", "routine", False),
        (".*", "", True),
        (".*?x", "ax", True),
        (".*a|b", "b", True),
        (r"(\d+,)+", "1,2,", True),
        (r"^(ab+c)*$", "abbcabc", True),
        (r"[(+*]+x", "(+x", True),
        (r"\(\w+\)+", "(a)))", True),
        (r"(?:a+){2}", "aa", True),
    ],
)
def test_a_pattern_is_found_anywhere(pattern: str, text: str, found: bool) -> None:
    assert bool(compile_search(pattern)(text)) is found


@pytest.mark.parametrize(
    "pattern", [r"^(a+)+$", r"(a*)*b", r"(\w+\s?)*$", r"(?:x|y+)+z", r"((a+)b?)+c", r"(a+){2,}b", r"(?P<n>[a-z]*)+!", r"((a+))*b"]
)
def test_a_pattern_that_some_text_keeps_busy_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="repeats what repeats already"):
        compile_search(pattern)


def test_what_stands_in_front_of_a_pattern_costs_nothing_on_a_long_text() -> None:
    assert not compile_search(".*urgent")("a" * 3_000_000)  # from each place to the end it would be hours


def test_what_is_no_pattern_says_why() -> None:
    with pytest.raises(ValueError, match="is no regular expression: missing"):
        compile_search("(")
