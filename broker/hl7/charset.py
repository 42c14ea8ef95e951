"""HL7 table 0211, Python codecs and DICOM Specific Character Sets in one table."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT = "UNICODE UTF-8"
FALLBACK = "windows-1252"

_DOUBLE = "[\x81-\xfe](?:[\x30-\x39][\x81-\xfe][\x30-\x39]|[\x40-\x7e\x80-\xfe])"  # GB18030, Big5: trail bytes may be delimiters
_SHIFT_JIS = "[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]"


@dataclass(frozen=True, slots=True)
class Charset:
    """One character set under the names it has here and there."""

    hl7: str  # table 0211
    codec: str  # Python
    dicom: str  # Specific Character Set (0008,0005); "" is the default repertoire
    multibyte: str = ""  # pattern of byte runs that may hold delimiters as parts of characters
    ascii_compatible: bool = True  # every byte below 128 is its ASCII character
    switched: bool = False  # by the escape sequences of ISO 2022, from ASCII
    controls: str = ""  # what is read in place of the control characters 80 to 9F; "" is the fallback


_PARTS = {1: 100, 2: 101, 3: 109, 4: 110, 5: 144, 6: 127, 7: 126, 8: 138, 9: 148, 15: 203}  # of ISO 8859: their ISO register
_WINDOWS = {2: "cp1250", 7: "cp1253", 8: "cp1255", 9: "cp1254"}  # the code pages that are these parts and more

CHARSETS = (
    Charset("ASCII", "ascii", ""),
    *(
        Charset(f"8859/{part}", f"iso8859-{part}", f"ISO_IR {register}", controls=_WINDOWS.get(part, ""))
        for part, register in _PARTS.items()
    ),
    Charset("UNICODE UTF-8", "utf-8", "ISO_IR 192"),
    Charset("ISO IR14", "shift_jis", "ISO_IR 13", _SHIFT_JIS, False),
    Charset("ISO IR87", "iso2022_jp_ext", "ISO 2022 IR 87", "", False, True),
    Charset("ISO IR159", "iso2022_jp_ext", "ISO 2022 IR 159", "", False, True),
    Charset("GB 18030-2000", "gb18030", "GB18030", _DOUBLE, False),
    Charset("KS X 1001", "euc_kr", "ISO 2022 IR 149", "", False, True),
    Charset("BIG-5", "big5", "ISO_IR 192", _DOUBLE, False),  # DICOM has no term for it
    Charset("ISO IR166", "tis_620", "ISO_IR 166"),
    *(Charset(f"windows-{page}", f"cp{page}", "ISO_IR 192") for page in range(1250, 1259)),  # not in table 0211, but in the field
)
NAMES = tuple(charset.hl7 for charset in CHARSETS)
SINGLE_BYTE = tuple(charset.hl7 for charset in CHARSETS if charset.ascii_compatible and charset.codec not in ("ascii", "utf-8"))

_ALIASES = {
    "UNICODE": DEFAULT,
    "UTF-8": DEFAULT,
    "ISO IR192": DEFAULT,
    "ISO IR6": "ASCII",
    "US-ASCII": "ASCII",
    "LATIN1": "8859/1",
    "ISO IR100": "8859/1",
    "ISO IR13": "ISO IR14",
    "GB18030": "GB 18030-2000",
    "GBK": "GB 18030-2000",
    "BIG5": "BIG-5",
    "EUC-KR": "KS X 1001",
    "ISO IR149": "KS X 1001",
}
_ALIASES |= {f"cp{page}": f"windows-{page}" for page in range(1250, 1259)} | {f"ISO8859/{part}": f"8859/{part}" for part in range(1, 16)}


def _key(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())


_BY_NAME = {_key(charset.hl7): charset for charset in CHARSETS}
_BY_NAME |= {_key(alias): _BY_NAME[_key(name)] for alias, name in _ALIASES.items() if _key(name) in _BY_NAME}


def find(name: str) -> Charset | None:
    """Return the character set that MSH-18 or a configuration names, however it spells it."""
    return _BY_NAME.get(_key(name))


# -- and DICOM (PS3.3 C.12.1.1.2): a set alone has one term, a set in a list that ISO 2022 switches in has another

_SWITCHED_TERMS = {c.dicom: c.dicom.replace("ISO_IR", "ISO 2022 IR") for c in CHARSETS if c.dicom != "ISO_IR 192"} | {"": "ISO 2022 IR 6"}
_BY_TERM = {c.dicom: c for c in reversed(CHARSETS)} | {"ISO_IR 192": _BY_NAME[_key(DEFAULT)]}
_BY_TERM |= {switched: _BY_TERM[term] for term, switched in _SWITCHED_TERMS.items()}
_BY_TERM |= {"GBK": _BY_TERM["GB18030"], "ISO 2022 IR 58": _BY_TERM["GB18030"]}


def to_dicom(declared: str) -> tuple[str, ...]:
    """Return the terms of Specific Character Set for the repetitions of an MSH-18, () for ASCII; raises ValueError.

    A list holds what ISO 2022 switches between; a set that cannot stand in such a list goes to ISO_IR 192.
    """
    names = declared.split("~")
    sets = [find(name) if name else CHARSETS[0] for name in names]
    known = [one for one in sets if one is not None]
    if len(known) < len(sets):
        raise ValueError(f"unknown character set in {declared!r}; write one of {', '.join(NAMES)}")
    if known[0].switched:
        known.insert(0, CHARSETS[0])
    terms = [one.dicom for one in known]
    if len(terms) == 1:
        return (terms[0],) if terms[0] else ()
    if any(term in ("ISO_IR 192", "GB18030") for term in terms):
        return ("ISO_IR 192",)
    return tuple(_SWITCHED_TERMS.get(term, term) for term in terms)


def of_dicom(terms: str) -> str:
    r"""Return the MSH-18 for a Specific Character Set, its terms joined by a backslash; "" when one of them is not known."""
    sets = [_BY_TERM.get(term.strip()) for term in terms.split("\\")]
    known = [one.hl7 for one in sets if one is not None]
    return "~".join(dict.fromkeys(known)) if len(known) == len(sets) else ""
