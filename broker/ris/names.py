"""Names, identifiers and sex as HL7 writes them, turned into what DICOM wants."""

from __future__ import annotations

import re

from broker.ris import times
from broker.ris.entities import Composite, Patient

_ESCAPES = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
_ESCAPE = re.compile(r"\\([^\\]*)\\")
_UNFIT = re.compile(r"[\\^=\x00-\x1f]+")  # delimiters of PN, and control characters
_UNFIT_TEXT = re.compile(r"[\\\x00-\x1f\x7f]+")  # the backslash separates values
SH, LO, PN = 16, 64, 64  # most characters of a value (PS3.5 table 6.2-1), of PN in one component group
_PRIORITY = {"ASAP": "HIGH"}  # the broker's priorities where (0040,1003) has another term
_SEX = {"M": "M", "F": "F", "O": "O", "A": "O"}  # HL7 table 0001 -> (0010,0040); every other code is not known to DICOM


def component(composite: str, number: int, sub: int = 1) -> str:
    """Return the unescaped subcomponent `number`.`sub` (both from 1) of the first repetition of an HL7 composite, "" when absent."""
    components = composite.split("~", 1)[0].split("^")
    if number > len(components):
        return ""
    parts = components[number - 1].split("&")
    return unescape(parts[sub - 1]) if sub <= len(parts) else ""


def unescape(text: str) -> str:
    r"""Return the text with the delimiter escapes of HL7 (\F\ \S\ \T\ \R\ \E\) resolved and every other escape left out."""
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], ""), text) if "\\" in text else text


def pn(family: str, given: str = "", middle: str = "", prefix: str = "", suffix: str = "") -> str:
    """Return a DICOM person name; what PN cannot hold becomes a blank."""
    parts = (_UNFIT.sub(" ", part).strip() for part in (family, given, middle, prefix, suffix))
    return "^".join(parts)[:PN].rstrip("^ ")


def fitted(text: str, most: int = LO) -> str:
    """Return a description as DICOM can hold it: one line, cut after so many characters."""
    return _UNFIT_TEXT.sub(" ", text).strip()[:most].rstrip()


def dicom_date(text: str) -> str:
    """Return a date as DA, "" when it is not a whole one: HL7 also knows a year, or a year and month."""
    return text if len(text) == 8 and text.isascii() and text.isdigit() and times.read(text) else ""


def dicom_priority(priority: str) -> str:
    """Return Requested Procedure Priority (0040,1003)."""
    return _PRIORITY.get(priority, priority)


def patient_to_pn(patient: Patient) -> str:
    """Return the DICOM PN of the patient."""
    return pn(patient.family, patient.given, patient.middle, patient.prefix, patient.suffix)


def xcn_to_pn(person: Composite) -> str:
    """Return the DICOM PN of the first repetition of an XCN (id^family^given^middle^suffix^prefix^degree)."""
    given, middle, suffix, prefix, degree = (component(person, number) for number in (3, 4, 5, 6, 7))
    return pn(component(person, 2), given, middle, prefix, " ".join(filter(None, (suffix, degree))))


def dicom_sex(sex: str) -> str:
    """Return Patient's Sex (0010,0040), "" when HL7 table 0001 says something DICOM has no code for."""
    return _SEX.get(sex.upper(), "")
