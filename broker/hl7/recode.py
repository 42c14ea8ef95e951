r"""A text from one character set to another, and what becomes of the characters that the other one does not have."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial

from broker.hl7.coder import Coder
from broker.hl7.delimiters import Delimiters
from broker.letters import nearest


class Unencodable(ValueError):
    """The character set does not have a character, and the policy knows no way around it."""


def recode(stored: str, source: Coder, target: Coder, d: Delimiters, policy: str) -> str:
    """Return a stored text, with its delimiters and escape sequences, as `target` stores it; raises Unencodable."""
    switches = "\\C" in stored or "\\M" in stored
    if stored.isascii() and not switches:
        return stored
    text = source.switched(stored) if switches else source.read(stored)
    if not _has(target, text):
        text = unicodedata.normalize("NFC", text)
    return target.write(text if _has(target, text) else POLICIES[policy](text, target, d))


def _refused(text: str, target: Coder, d: Delimiters) -> str:
    raise Unencodable


def _transliterated(text: str, target: Coder, d: Delimiters) -> str:
    found = []
    for character in text:
        near = character if _has(target, character) else nearest(character, partial(_has, target))
        if near is None:
            raise Unencodable
        found.append(near if near == character else d.escaped(near))
    return "".join(found)


def _escaped(text: str, target: Coder, d: Delimiters) -> str:
    """Write what the set does not have as its bytes in UTF-8."""
    missing = "".join({character for character in text if not _has(target, character)})
    return re.sub(f"[{re.escape(missing)}]+", lambda run: f"{d.escape}X{run[0].encode().hex().upper()}{d.escape}", text)


def _has(target: Coder, text: str) -> bool:
    try:
        target.write(text)
    except UnicodeEncodeError:
        return False
    return True


POLICIES: Mapping[str, Callable[[str, Coder, Delimiters], str]] = {
    "refuse": _refused,
    "transliterate": _transliterated,
    "escape": _escaped,
}
