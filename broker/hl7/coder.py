"""Text read from a message's bytes without altering them, and what is doubtful about the character set they claim."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from broker.hl7 import iso2022
from broker.hl7.charset import CHARSETS, DEFAULT, FALLBACK, NAMES, SINGLE_BYTE, Charset, find

Doubt = Literal["", "unknown", "mislabelled", "undecodable"]

_CONTROLS = re.compile(rb"[\x80-\x9f]")  # in ISO 8859; no system sends them on purpose


class Coder:
    """Turns bytes into text that may be cut at ASCII delimiters and back into the very same bytes.

    Stored text is not always readable text: `read` gives what a person sees, `write` stores what a person typed.
    Stray bytes are kept as lone surrogates and read by the fallback.
    """

    __slots__ = ("_readable", "charset", "codec", "fallback")

    def __init__(self, charset: Charset, fallback: Charset) -> None:
        self.charset = charset
        self.codec = charset.codec
        self.fallback = fallback
        self._readable = {0xDC00 + byte: _single(byte, fallback.codec) for byte in range(128, 256)}
        if charset.codec.startswith("iso8859"):  # its control characters 80 to 9F are in truth another code page
            self._readable |= {byte: _single(byte, charset.controls or fallback.codec) for byte in range(128, 160)}

    @property
    def names(self) -> str:
        """MSH-18 for this set."""
        return self.charset.hl7

    def load(self, raw: bytes) -> str:
        """Return the stored text of bytes."""
        return raw.decode(self.codec, "surrogateescape")

    def dump(self, text: str) -> bytes:
        """Return the bytes of stored text."""
        return text.encode(self.codec, "surrogateescape")

    def read(self, text: str) -> str:
        """Return stored text as a person reads it."""
        return text.translate(self._readable)

    def write(self, text: str) -> str:
        """Return plain text as it is stored; raises UnicodeEncodeError when the character set has no such character."""
        text.encode(self.codec)
        if text.translate(self._readable) != text:  # a control character that would be read as another character
            raise UnicodeEncodeError(self.codec, text, 0, len(text), "not a character of this set")
        return text

    def decode(self, raw: bytes) -> str:
        r"""Return the text of the bytes of a \X..\ escape sequence: UTF-16 when they begin with 00, else UTF-8 or this set."""
        if raw[0] == 0 and len(raw) > 1 and len(raw) % 2 == 0:
            codecs = ("utf-16-be", self.codec)
        else:
            codecs = (self.codec, "utf-8") if self.codec == "gb18030" else ("utf-8", self.codec)  # GB 18030 has every character itself
        for codec in codecs:
            try:
                return raw.decode(codec).translate(self._readable)
            except UnicodeDecodeError:
                continue
        return raw.decode("ascii", "surrogateescape").translate(self._readable)

    def switched(self, text: str) -> str:
        r"""Return stored text in which ISO 2022 or `\C..\` and `\M..\` switch to other sets, as a person reads it."""
        return iso2022.decode(self.dump(text), lambda raw: raw.decode(self.codec), self._stray)

    def doubt(self, line: bytes) -> Doubt:
        """Return what is wrong with bytes that claim to be of this set."""
        if line.isascii():
            return ""
        try:
            line.decode(self.codec)
        except UnicodeDecodeError:
            return "undecodable"
        if self.charset.hl7 not in SINGLE_BYTE:
            return ""
        return "mislabelled" if (self.codec.startswith("iso8859") and _CONTROLS.search(line)) or _is_utf_8(line) else ""

    def _stray(self, raw: bytes) -> str:
        return raw.decode("ascii", "surrogateescape").translate(self._readable)


class ShiftedCoder(Coder):
    """For character sets whose characters may contain delimiter bytes: stored text is one character per byte.

    Bytes below 128 that belong to a longer character are shifted to the private use area, out of the delimiters' way.
    """

    __slots__ = ("_runs",)

    def __init__(self, charset: Charset, fallback: Charset, runs: str = "") -> None:
        super().__init__(charset, fallback)
        self._runs = re.compile(runs or charset.multibyte)

    def load(self, raw: bytes) -> str:
        if raw.isascii() and b"\x1b" not in raw and b"\\M" not in raw:
            return raw.decode("ascii")
        return self._runs.sub(lambda match: match[0].translate(_SHIFT), raw.decode("latin-1"))

    def dump(self, text: str) -> bytes:
        return text.translate(_UNSHIFT).encode("latin-1")

    def read(self, text: str) -> str:
        return self._decoded(self.dump(text))

    def write(self, text: str) -> str:
        return self.load(text.encode(self.codec))

    def _decoded(self, raw: bytes) -> str:
        found: list[str] = []
        at = 0
        while True:
            try:
                return "".join([*found, raw[at:].decode(self.codec)])
            except UnicodeDecodeError as error:
                good, bad = at + error.start, at + max(error.end, error.start + 1)
                found += [raw[at:good].decode(self.codec), self._stray(raw[good:bad])]
                at = bad


class SwitchedCoder(ShiftedCoder):
    """For a first character set, and others that ISO 2022 switches to within a text."""

    __slots__ = ("_home", "_others", "_sets")

    def __init__(self, sets: Sequence[Charset], fallback: Charset) -> None:
        first, *others = sets
        super().__init__(first, fallback, iso2022.RUN)
        self._sets = tuple(sets)
        self._home = iso2022.ELEMENTS.get(first.hl7)
        self._others = [iso2022.ELEMENTS[one.hl7] for one in others]
        self.codec = others[0].codec if others and first.codec == "ascii" else first.codec

    @property
    def names(self) -> str:
        return "~".join("" if one.codec == "ascii" else one.hl7 for one in self._sets)

    def read(self, text: str) -> str:
        return iso2022.decode(self.dump(text), self._at_home, self._stray)

    def switched(self, text: str) -> str:
        return self.read(text)

    def write(self, text: str) -> str:
        return self.load(iso2022.encode(text, self._home, self._others))

    def doubt(self, line: bytes) -> Doubt:
        if line.isascii() and b"\x1b" not in line:
            return ""
        try:
            iso2022.decode(line, self._at_home, _strict)
        except UnicodeError:
            return "undecodable"
        return ""

    def _at_home(self, raw: bytes) -> str:
        """Read G1 as the first set, or where that is ASCII as the first other one: some senders designate it nowhere."""
        home = self._home or next((element for element in self._others if element.right), None)
        return home.decode(raw) if home else raw.decode("ascii")


_SHIFT = {byte: 0xE000 + byte for byte in range(128)}
_UNSHIFT = {0xE000 + byte: byte for byte in range(128)}


def _single(byte: int, codec: str) -> str:
    try:
        return bytes([byte]).decode(codec)
    except UnicodeDecodeError:
        return chr(byte)


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _strict(raw: bytes) -> str:
    raise UnicodeDecodeError("iso2022", raw, 0, len(raw), "not a character of these sets")


@lru_cache(maxsize=256)
def coder(name: str, fallback: str = FALLBACK) -> Coder:
    """Return the coder for the repetitions of an MSH-18; raises ValueError for one that is not known or a fallback of several bytes."""
    sets = [find(one) if one else CHARSETS[0] for one in name.split("~")]
    known = [one for one in sets if one is not None]
    if len(known) < len(sets):
        raise ValueError(f"unknown character set {name!r}; write one of {', '.join(NAMES)}")
    spare = find(fallback)
    if spare is None or spare.hl7 not in SINGLE_BYTE:
        raise ValueError(f"{fallback!r} cannot be a fallback; write one of {', '.join(SINGLE_BYTE)}")
    return _coder(known, spare)


def _coder(sets: Sequence[Charset], fallback: Charset) -> Coder:
    """Return the coder of the sets that MSH-18 names: of the one that holds all others, or of all where ISO 2022 switches."""
    first, *others = dict.fromkeys(sets)
    if any(one.codec == "utf-8" for one in others) and first.codec == "ascii":
        return Coder(next(one for one in others if one.codec == "utf-8"), fallback)
    alone = [one for one in (first, *others) if not one.ascii_compatible and one.hl7 not in iso2022.ELEMENTS]
    if alone:  # GB18030, Big5
        return ShiftedCoder(alone[0], fallback)
    others = [one for one in others if one.hl7 in iso2022.ELEMENTS]
    if first.hl7 in ("ISO IR87", "ISO IR159"):  # they stand beside ASCII, never in its place
        first, others = CHARSETS[0], [first, *others]
    if any(one.hl7 == "ISO IR159" for one in others):  # the supplement of ISO IR87
        others = list(dict.fromkeys([find("ISO IR87") or first, *others]))
    if others or first.switched:
        return SwitchedCoder([first, *others], fallback)
    return Coder(first, fallback) if first.ascii_compatible else ShiftedCoder(first, fallback)


@lru_cache(maxsize=256)
def declared(value: str, default: str | None, fallback: str) -> tuple[Coder, Doubt]:
    """Return the coder for an MSH-18, and whether it names a set that is not known; what it does not say is `default`."""
    names = [name.strip() for name in value.split("~")]
    known = [name for at, name in enumerate(names) if find(name) or not (name or at)]
    unknown: Doubt = "unknown" if any(name and not find(name) for name in names) else ""
    if not any(known):
        return coder(default or DEFAULT, fallback), unknown
    return coder("~".join(known), fallback), unknown
