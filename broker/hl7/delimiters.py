"""The delimiters a message declares in MSH-1 and MSH-2, and the escape sequences that follow from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

STANDARD_ENCODING = "^~\\&"

# what a formatting command becomes in plain text; the number is capped by the syntax below (three digits)
_FORMATTING: dict[str, Callable[[int], str]] = {
    ".br": lambda n: "\n",
    ".sp": lambda n: "\n" * max(n, 1),
    ".ce": lambda n: "\n",
    ".sk": lambda n: " " * max(n, 1),
}
_SEQUENCE = r"(?:[FSRETPHN]|(?i:\.(?:br|sp|sk|ce|fi|nf|in|ti))[+-]?\d{0,3}|X(?:[0-9A-Fa-f]{2})+)"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROLS = {code: f"X{code:02X}" for code in (*range(32), 127) if code not in (9, 10)}  # a tab may stand, LF is \.br\


class Delimiters:
    """Five characters, and the tables made of them once."""

    __slots__ = (
        "_from_standard",
        "_inverse",
        "_letters",
        "_sequence",
        "_table",
        "_to_standard",
        "component",
        "encoding",
        "escape",
        "field",
        "foreign",
        "plain",
        "repetition",
        "special",
        "subcomponent",
    )

    def __init__(self, field: str, encoding: str) -> None:
        # some senders write the escape character twice, as their programming language wants it
        distinct = "".join(dict.fromkeys(encoding))
        # MSH-2 may be short; what it leaves out takes the standard's place, or the truncation character is a fifth
        spare = (c for c in STANDARD_ENCODING + "#@!" if c not in distinct and c != field)
        given = [distinct[i] if i < len(distinct) else next(spare) for i in range(4)]
        self.field = field
        self.component, self.repetition, self.escape, self.subcomponent = given
        self.encoding = encoding if len(encoding) == len(distinct) else distinct
        own = dict(zip("FSRET", (field, self.component, self.repetition, self.escape, self.subcomponent), strict=True))
        self._letters = {**own, "P": distinct[4] if len(distinct) > 4 else "#", "H": "", "N": ""}
        e = self.escape
        self._table = {ord(c): f"{e}{letter}{e}" for letter, c in own.items()}
        self._table |= {code: f"{e}{name}{e}" for code, name in _CONTROLS.items()} | {10: f"{e}.br{e}"}
        self.special = re.compile("[" + "".join(re.escape(chr(c)) for c in self._table) + "]")
        self._sequence = re.compile(f"{re.escape(e)}({_SEQUENCE}){re.escape(e)}")
        standard = dict(zip("FSRET", "|^~\\&", strict=True))
        self.foreign = own != standard
        self.plain = "" if self.foreign else e  # a text without it is read as it stands; "" is in every text
        self._to_standard = _translation(own, standard)
        self._from_standard = _translation(standard, own)

    def escaped(self, text: str) -> str:
        """Return plain text as it is written into a message; CR LF becomes one line break."""
        if not self.special.search(text):
            return text
        return text.replace("\r\n", "\n").translate(self._table)

    def unescaped(self, text: str, decode: Callable[[bytes], str]) -> str:
        """Return plain text; a sequence that is not one of the standard's stays as it is."""

        def plain(match: re.Match[str]) -> str:
            name = match[1]
            if name in self._letters:
                return self._letters[name]
            if name[0] == "X":
                return decode(bytes.fromhex(name[1:]))
            format_ = _FORMATTING.get(name[:3].lower())
            return format_(int(name[3:].lstrip("+-") or 0)) if format_ else ""

        return self._sequence.sub(plain, text) if self.escape in text else text

    def to_standard(self, composite: str) -> str:
        """Return a composite of this message in the standard delimiters."""
        return self._to_standard(composite) if self.foreign else composite

    def from_standard(self, composite: str) -> str:
        """Return a composite in standard delimiters as this message writes it; what would end a field or segment is escaped."""
        return _CONTROL.sub(lambda match: self._table[ord(match[0])], self._from_standard(composite))


def _translation(source: dict[str, str], target: dict[str, str]) -> Callable[[str], str]:
    """Return the function that puts each delimiter's counterpart in its place, and escapes what is text here but a delimiter there."""
    e = target["E"]
    table = {c: f"{e}{letter}{e}" for letter, c in target.items()}
    table |= {c: target[letter] for letter, c in source.items() if letter != "F"}
    for letter, c in source.items():  # an escape sequence names the delimiter of its own message
        named = next((name for name, other in target.items() if other == c), "")
        table[f"{source['E']}{letter}{source['E']}"] = f"{e}{named}{e}" if named else c
    quote = re.escape(source["E"])
    pattern = re.compile(f"{quote}({_SEQUENCE}){quote}|" + "|".join(re.escape(c) for c in table if len(c) == 1))

    def counterpart(match: re.Match[str]) -> str:
        return table[match[0]] if match[0] in table else f"{e}{match[1]}{e}"

    return lambda composite: pattern.sub(counterpart, composite)


@lru_cache(maxsize=256)
def delimiters(field: str, encoding: str) -> Delimiters:
    """Return the delimiters for MSH-1 and MSH-2."""
    return Delimiters(field, encoding)


STANDARD = delimiters("|", STANDARD_ENCODING)
