"""HL7 table 0211, Python codecs and DICOM Specific Character Sets in one table; and text read from bytes without altering them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

DEFAULT = "UNICODE UTF-8"
FALLBACK = "windows-1252"

_DOUBLE = "[\x81-\xfe](?:[\x30-\x39][\x81-\xfe][\x30-\x39]|[\x40-\x7e\x80-\xfe])"  # GB18030, Big5: trail bytes may be delimiters
_SHIFT_JIS = "[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]"
# ISO 2022: all bytes from the designation of a set to the return to ASCII; a designation to G1 leaves ASCII in place
_ISO_2022 = r"\x1b(?:\$\(?[@-_]|\((?![BJ])[0-~])[^\x1b\r\n]*|\x1b[ -/]+[0-~]"


@dataclass(frozen=True, slots=True)
class Charset:
    """One character set under the names it has here and there."""

    hl7: str  # table 0211
    codec: str  # Python
    dicom: str  # Specific Character Set (0008,0005); "" is the default repertoire
    multibyte: str = ""  # pattern of byte runs that may hold delimiters as parts of characters
    ascii_compatible: bool = True  # every byte below 128 is its ASCII character


CHARSETS = (
    Charset("ASCII", "ascii", ""),
    *(
        Charset(f"8859/{part}", f"iso8859-{part}", f"ISO_IR {register}")
        for part, register in {1: 100, 2: 101, 3: 109, 4: 110, 5: 144, 6: 127, 7: 126, 8: 138, 9: 148, 15: 203}.items()
    ),
    Charset("UNICODE UTF-8", "utf-8", "ISO_IR 192"),
    Charset("ISO IR14", "shift_jis", "ISO_IR 13", _SHIFT_JIS, False),
    Charset("ISO IR87", "iso2022_jp_ext", "\\ISO 2022 IR 87", _ISO_2022, False),
    Charset("ISO IR159", "iso2022_jp_ext", "\\ISO 2022 IR 159", _ISO_2022, False),
    Charset("GB 18030-2000", "gb18030", "GB18030", _DOUBLE, False),
    Charset("KS X 1001", "euc_kr", "\\ISO 2022 IR 149", "[\xa1-\xfe]{2}", False),
    Charset("BIG-5", "big5", "ISO_IR 192", _DOUBLE, False),  # DICOM has no term for it
    Charset("ISO IR166", "tis_620", "ISO_IR 166"),
    *(Charset(f"windows-{page}", f"cp{page}", "ISO_IR 192") for page in range(1250, 1259)),  # not in table 0211, but in the field
)
NAMES = tuple(charset.hl7 for charset in CHARSETS)
SINGLE_BYTE = tuple(charset.hl7 for charset in CHARSETS if charset.ascii_compatible and charset.codec not in ("ascii", "utf-8"))

_ALIASES = {
    "UNICODE": DEFAULT,
    "UTF-8": DEFAULT,
    "ISO IR6": "ASCII",
    "US-ASCII": "ASCII",
    "GB18030": "GB 18030-2000",
    "GBK": "GB 18030-2000",
}
_ALIASES |= {
    "LATIN1": "8859/1",
    "BIG5": "BIG-5",
    "EUC-KR": "KS X 1001",
    "ISO IR100": "8859/1",
    "ISO IR192": DEFAULT,
    "ISO IR149": "KS X 1001",
}
_ALIASES |= {f"cp{page}": f"windows-{page}" for page in range(1250, 1259)} | {f"ISO8859/{part}": f"8859/{part}" for part in range(1, 16)}


def _key(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())


_BY_NAME = {_key(charset.hl7): charset for charset in CHARSETS}
_BY_NAME |= {_key(alias): _BY_NAME[_key(name)] for alias, name in _ALIASES.items() if _key(name) in _BY_NAME}
_BY_DICOM = {_key(charset.dicom): charset for charset in reversed(CHARSETS)} | {_key("ISO_IR 192"): _BY_NAME[_key(DEFAULT)]}
_BY_DICOM |= {_key(f"ISO 2022 IR {c.dicom[7:]}"): c for c in CHARSETS if c.dicom.startswith("ISO_IR")} | {
    _key("ISO 2022 IR 6"): CHARSETS[0]
}
_BY_DICOM |= {_key("GBK"): _BY_NAME[_key("GB18030")], _key("ISO 2022 IR 58"): _BY_NAME[_key("GB18030")]}


def find(name: str) -> Charset | None:
    """Return the character set that MSH-18 or a configuration names, however it spells it."""
    return _BY_NAME.get(_key(name))


def of_dicom(terms: str) -> Charset | None:
    r"""Return the character set of a Specific Character Set, several terms joined by a backslash: the last known one decides."""
    known = [_BY_DICOM[key] for key in map(_key, terms.split("\\")) if key in _BY_DICOM]
    return known[-1] if known else None


class Coder:
    """Turns bytes into text that may be cut at ASCII delimiters and back into the very same bytes.

    Stored text is not always readable text: `read` gives what a person sees, `write` stores what a person typed.
    Stray bytes are kept as lone surrogates and read by the fallback.
    """

    __slots__ = ("_readable", "charset", "codec")

    def __init__(self, charset: Charset, fallback: Charset) -> None:
        self.charset = charset
        self.codec = charset.codec
        self._readable = {0xDC00 + byte: _single(byte, fallback) for byte in range(128, 256)}
        if charset.hl7 == "8859/1":  # its control characters 80 to 9F are in truth another code page
            self._readable |= {byte: _single(byte, fallback) for byte in range(128, 160)}

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
        r"""Return the text of the bytes of a \X..\ escape sequence; an even run that begins with 00 may be UTF-16."""
        try:
            return raw.decode("utf-16-be" if raw[0] == 0 and len(raw) > 1 and len(raw) % 2 == 0 else self.codec)
        except UnicodeDecodeError:
            return self.read(raw.decode("ascii", "surrogateescape"))


class ShiftedCoder(Coder):
    """For character sets whose characters may contain delimiter bytes: stored text is one character per byte.

    Bytes below 128 that belong to a longer character are shifted to the private use area, out of the delimiters' way.
    """

    __slots__ = ("_multibyte",)

    def __init__(self, charset: Charset, fallback: Charset) -> None:
        super().__init__(charset, fallback)
        self._multibyte = re.compile(charset.multibyte)

    def load(self, raw: bytes) -> str:
        return self._multibyte.sub(lambda match: match[0].translate(_SHIFT), raw.decode("latin-1"))

    def dump(self, text: str) -> bytes:
        return text.translate(_UNSHIFT).encode("latin-1")

    def read(self, text: str) -> str:
        raw = self.dump(text)
        try:
            return raw.decode(self.codec, "surrogateescape").translate(self._readable)
        except UnicodeDecodeError:
            return raw.decode(self.codec, "replace")

    def write(self, text: str) -> str:
        return self.load(text.encode(self.codec))


_SHIFT = {byte: 0xE000 + byte for byte in range(128)}
_UNSHIFT = {0xE000 + byte: byte for byte in range(128)}


def _single(byte: int, fallback: Charset) -> str:
    try:
        return bytes([byte]).decode(fallback.codec)
    except UnicodeDecodeError:
        return chr(byte)


@lru_cache(maxsize=256)
def coder(name: str, fallback: str = FALLBACK) -> Coder:
    """Return the coder of a character set; raises ValueError for a name that is not known or a fallback of several bytes."""
    charset, spare = find(name), find(fallback)
    if charset is None:
        raise ValueError(f"unknown character set {name!r}; write one of {', '.join(NAMES)}")
    if spare is None or spare.hl7 not in SINGLE_BYTE:
        raise ValueError(f"{fallback!r} cannot be a fallback; write one of {', '.join(SINGLE_BYTE)}")
    return Coder(charset, spare) if charset.ascii_compatible else ShiftedCoder(charset, spare)


@lru_cache(maxsize=256)
def declared(value: bytes, default: str | None, fallback: str) -> Coder:
    """Return the coder for the bytes of MSH-18; repetitions after the first name sets that escape sequences switch to."""
    names = [name.decode("latin-1") for name in value.split(b"~")]
    known = [charset for charset in map(find, names) if charset]
    switched = [charset for charset in known if not charset.ascii_compatible]
    if switched:
        japanese = [charset for charset in switched if charset.codec.startswith("iso2022")]
        return coder((japanese or switched)[0].hl7, fallback)
    return coder(known[0].hl7 if known else default or DEFAULT, fallback)
