"""The nearest letters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.letters import nearest


def in_set(codec: str):  # type: ignore[no-untyped-def]
    def holds(text: str) -> bool:
        try:
            text.encode(codec)
        except UnicodeEncodeError:
            return False
        return True

    return holds


@pytest.mark.parametrize(
    ("character", "codec", "text"),
    [
        ("é", "ascii", "e"),
        ("Ł", "ascii", "L"),
        ("Ł", "latin-1", "L"),
        ("ß", "ascii", "ss"),
        ("ø", "ascii", "o"),
        ("ǿ", "ascii", "o"),
        ("ǿ", "latin-1", "ø"),
        ("æ", "ascii", "ae"),
        ("œ", "latin-1", "oe"),
        ("ﬁ", "ascii", "fi"),
        ("ệ", "latin-1", "ê"),
        ("’", "latin-1", "'"),
        ("“", "ascii", '"'),
        ("–", "latin-1", "-"),
        ("…", "ascii", "..."),
        ("€", "latin-1", "EUR"),
        ("µ", "ascii", "u"),
        ("½", "ascii", "1/2"),
        ("²", "ascii", "2"),
        ("Å", "ascii", "A"),
        ("\u212b", "latin-1", "Å"),
        ("\u00a0", "ascii", " "),
        ("\u200b", "latin-1", ""),
        ("\u0301", "latin-1", ""),
        ("Ａ", "latin-1", "A"),
        ("ﾔ", "euc_kr", "ヤ"),
        ("山", "latin-1", None),
        ("И", "latin-1", None),
        ("Ω", "ascii", None),
        ("\u0085", "ascii", None),
    ],
)
def test_the_nearest(character: str, codec: str, text: str | None) -> None:
    assert nearest(character, in_set(codec)) == text


@given(st.characters(codec="utf-8"), st.sampled_from(["ascii", "latin-1", "iso8859-2", "iso8859-5", "shift_jis"]))
def test_what_is_given_is_held(character: str, codec: str) -> None:
    near = nearest(character, in_set(codec))
    assert near is None or in_set(codec)(near)
