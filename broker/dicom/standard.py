"""What the DICOM standard says of an attribute's value: its VR, and the form and length that VR allows (PS3.5 table 6.2-1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.datadict import dictionary_description, dictionary_VM, dictionary_VR, tag_for_keyword


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of the data dictionary (PS3.6)."""

    keyword: str
    name: str  # "Accession Number"
    vr: str
    vm: str  # "1", "1-n"


_LENGTHS: Mapping[str, int] = {"AE": 16, "CS": 16, "DS": 16, "IS": 12, "LO": 64, "SH": 16, "UI": 64, "LT": 10240, "ST": 1024, "AS": 4}
SINGLE = frozenset({"LT", "ST", "UT", "UR"})  # of one value: a backslash in it is text
_FORMS: Mapping[str, tuple[str, str]] = {
    "AE": (r"[\x20-\x7e]*", "ASCII"),
    "AS": (r"\d{3}[DWMY]", "a number of days, weeks, months or years such as 045Y"),
    "CS": (r"[A-Z0-9 _]*", "capital letters, digits, blanks and underscores"),
    "DA": (r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", "a date such as 20260302"),
    "DS": (r" *[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)? *", "a decimal number"),
    "DT": (r"\d{4}(\d\d(\d\d(\d\d(\d\d(\d\d(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?", "a date and time such as 20260302120000"),
    "IS": (r" *[+-]?\d+ *", "a whole number"),
    "TM": (r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", "a time such as 143000"),
    "UI": (r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", "a UID such as 1.2.840.10008.1.1"),
}
_PN_GROUP = 64  # characters of each component group


def attribute(path: str) -> Attribute | None:
    """Return the attribute that a keyword names, of a dotted path the last one; None when there is none."""
    keyword = path.rpartition(".")[2]
    tag = tag_for_keyword(keyword)
    return None if tag is None else Attribute(keyword, dictionary_description(tag), dictionary_VR(tag), dictionary_VM(tag))


def fault(vr: str, text: str) -> str:
    r"""Return what is wrong with a text as values (separated by `\`) of a VR, "" when nothing is; an empty value is always right."""
    values = [text] if vr in SINGLE else text.split("\\")
    return next((wrong for value in values if value and (wrong := _fault(vr, value))), "")


def _fault(vr: str, value: str) -> str:
    if vr == "PN":
        return _name_fault(value)
    most = _LENGTHS.get(vr)
    if most is not None and len(value.strip(" ")) > most:
        return f"{vr} holds {most} characters, this has {len(value.strip(' '))}"
    if vr in _FORMS:
        pattern, wanted = _FORMS[vr]
        return "" if re.fullmatch(pattern, value) else f"{vr} holds {wanted}"
    if vr in ("SH", "LO") and any(ord(character) < 32 and character != "\x1b" for character in value):
        return f"{vr} holds no control characters"
    return ""


def _name_fault(value: str) -> str:
    groups = value.split("=")
    if len(groups) > 3:
        return "PN has at most three component groups"
    if any(len(group) > _PN_GROUP for group in groups):
        return f"PN holds {_PN_GROUP} characters in each component group"
    return "PN has at most five components" if any(group.count("^") > 4 for group in groups) else ""
