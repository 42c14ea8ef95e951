"""Escape sequences, read and written."""

import pytest

from broker.hl7.delimiters import STANDARD, delimiters


def utf8(raw: bytes) -> str:
    return raw.decode()


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("\\F\\\\S\\\\R\\\\E\\\\T\\", "|^~\\&"),
        ("a\\.br\\b\\.BR\\c", "a\nb\nc"),
        ("\\.sp2\\x\\.sp\\", "\n\nx\n"),
        ("\\.sk3\\|\\.in+4\\\\.fi\\", "   |"),
        ("\\H\\bold\\N\\", "bold"),
        ("\\XC3A9\\\\X0D\\", "é\r"),
        ("\\E\\<b>no end", "\\<b>no end"),
        ("C:\\temp\\T\\", "C:\\temp&"),
        ("\\", "\\"),
        ("\\\\F\\", "\\|"),
        ("\\Zlocal\\ \\C2842\\ \\X1\\ \\XZZ\\", "\\Zlocal\\ \\C2842\\ \\X1\\ \\XZZ\\"),
        ("\\.sp99999\\", "\\.sp99999\\"),
        ("\\P\\", "#"),
        ("plain", "plain"),
    ],
)
def test_unescaped(stored: str, text: str) -> None:
    assert STANDARD.unescaped(stored, utf8) == text


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("|^~\\&", "\\F\\\\S\\\\R\\\\E\\\\T\\"),
        ("a\nb\r\nc\rd", "a\\.br\\b\\.br\\c\\X0D\\d"),
        ("\x0b\x1c\x00\t", "\\X0B\\\\X1C\\\\X00\\\t"),
        ("ü", "ü"),
    ],
)
def test_escaped(text: str, stored: str) -> None:
    assert STANDARD.escaped(text) == stored


def test_a_composite_survives_foreign_delimiters() -> None:
    foreign = delimiters("$", "%*?!")
    composite = "a\\T\\b^$%*?!~\\E\\&x\\F\\"
    assert foreign.to_standard(foreign.from_standard(composite)) == composite
