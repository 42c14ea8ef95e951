"""The nearest text that a smaller character set can hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator

# what Unicode does not take apart
_NEAREST = {
    "ß": "ss",
    "ẞ": "SS",
    "æ": "ae",
    "Æ": "AE",
    "œ": "oe",
    "Œ": "OE",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
    "ð": "d",
    "Ð": "D",
    "þ": "th",
    "Þ": "Th",
    "ħ": "h",
    "Ħ": "H",
    "ŧ": "t",
    "Ŧ": "T",
    "ı": "i",
    "ŋ": "ng",
    "Ŋ": "NG",
    "ĸ": "k",
    "ə": "e",
    "Ə": "E",
    "μ": "u",
    "‘": "'",
    "’": "'",
    "‚": "'",
    "‛": "'",
    "ʼ": "'",
    "′": "'",
    "‹": "'",
    "›": "'",
    "“": '"',
    "”": '"',
    "„": '"',
    "‟": '"',
    "″": '"',
    "«": '"',
    "»": '"',
    "‐": "-",
    "‑": "-",
    "‒": "-",
    "–": "-",
    "—": "-",
    "―": "-",
    "−": "-",
    "⁄": "/",
    "÷": "/",
    "×": "x",
    "±": "+/-",
    "≤": "<=",
    "≥": ">=",
    "•": "*",
    "·": ".",
    "€": "EUR",
    "£": "GBP",
    "©": "(C)",
    "®": "(R)",
    "\u00a0": " ",
    "\u00ad": "",  # soft hyphen
    "\u200b": "",  # blank of no width, joiners, marks of direction, byte order mark
    "\u200c": "",
    "\u200d": "",
    "\u200e": "",
    "\u200f": "",
    "\ufeff": "",
}


def nearest(character: str, holds: Callable[[str], bool]) -> str | None:
    """Return the text nearest to a character that `holds` accepts: as Unicode takes it apart, with as many accents as can stay.

    "" for a mark without a shape of its own, None when nothing is near.
    """
    if unicodedata.combining(character):
        return ""
    for form in ("NFC", "NFKC"):
        text = unicodedata.normalize(form, character)
        if text != character and holds(text):
            return text
    found = []
    for part in _clusters(_NEAREST.get(character, character)):
        kept = next((text for text in _poorer(part) if holds(text)), None)
        if kept is None:
            return None
        found.append(kept)
    return "".join(found)


def _clusters(text: str) -> list[str]:
    """Return each base letter with its accents."""
    clusters: list[str] = []
    for part in unicodedata.normalize("NFKD", text):
        if clusters and unicodedata.combining(part):
            clusters[-1] += part
        else:
            clusters.append(part)
    return clusters


def _poorer(cluster: str) -> Iterator[str]:
    """Yield a letter with fewer and fewer of its accents, and at last what stands for the bare letter."""
    for end in range(len(cluster), 1, -1):
        for start in range(1, end):
            yield unicodedata.normalize("NFC", cluster[0] + cluster[start:end])
    yield cluster[0]
    bare = _NEAREST.get(cluster[0])
    if bare is not None:
        yield bare
