"""Attribute matching of queries (PS3.4 C.2.2.2): universal, single value, wildcard, range, list of UID, person name."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_KANA = "\u3099\u309a"  # the voicing marks, which make other letters
_UNFOLDED = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d"})


def is_universal(key: str) -> bool:
    """Return whether the key matches everything."""
    return not key.strip("* ")


def is_wild(key: str) -> bool:
    """Return whether the key holds a wildcard."""
    return "*" in key or "?" in key


def is_exact(key: str) -> bool:
    """Return whether the key is one value, without wildcards."""
    return bool(key) and not is_wild(key) and "\\" not in key


def matches(key: str, value: str) -> bool:
    """Return whether the value fits the key: empty fits all, `*` any text, `?` any one character; case counts."""
    if key in ("", "*"):
        return True
    return _fits(key, value) if is_wild(key) else key == value


def matches_list(key: str, value: str) -> bool:
    r"""Return whether the value fits one of the keys that backslashes separate; of a value of several, one is enough."""
    if not key:
        return True
    return any(matches(one, part) for one in key.split("\\") for part in value.split("\\"))


def matches_name(key: str, name: str) -> bool:
    """Return whether the PN fits the key: as `matches`, without regard to case, accents and empty components at the end.

    Of a key with component groups (alphabetic=ideographic=phonetic) one is enough, whichever group of the name it fits: a
    modality that shows both scripts asks with both.
    """
    if not (groups := [group for group in map(folded, key.split("=")) if group]):
        return True
    names = [group for group in map(folded, name.split("=")) if group] or [""]
    return any(matches(group, one) for group in groups for one in names)


def matches_dates(key: str, value: str) -> bool:
    """Return whether a date fits `low-high`, either end open, or a single date; no date fits no key."""
    low, high = dates(key)
    if not low and not high:
        return True
    return bool(value) and low <= value and (not high or value[: len(high)] <= high)


def dates(key: str) -> tuple[str, str]:
    """Return both ends of a range of dates (YYYYMMDD), the same for a single date; "" where it is open."""
    return _ends(key.replace(".", ""))


def times(key: str) -> tuple[str, str]:
    """Return both ends of a range of times (HHMM[SS]), the same for a single time; "" where it is open."""
    return _ends(re.sub(r"\.\d*|:", "", key))


def _ends(key: str) -> tuple[str, str]:
    low, dash, high = key.strip(" *").partition("-")
    return (low.strip(), high.strip() if dash else low.strip())


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """Return a component group of a name as it is compared."""
    text = name.rstrip("^ ").casefold()
    if text.isascii():
        return text
    apart = unicodedata.normalize("NFKD", text.translate(_UNFOLDED))
    return unicodedata.normalize("NFC", "".join(c for c in apart if not unicodedata.combining(c) or c in _KANA))


def _fits(pattern: str, text: str) -> bool:
    """Match wildcards in time of the two lengths' product at most, whatever the pattern: a regular expression could run away."""
    at = place = 0
    star, retry = -1, 0  # the last `*` met, and where its text may end
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, retry = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            at += 1
            place += 1
        elif star >= 0:
            retry += 1
            at, place = star + 1, retry
        else:
            return False
    return not pattern[at:].strip("*")
