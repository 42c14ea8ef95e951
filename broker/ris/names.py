"""Names, identifiers and sex as HL7 writes them, turned into what DICOM wants."""

from __future__ import annotations

import re

from broker.ris.entities import Composite, Patient

_ESCAPES = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
_ESCAPE = re.compile(r"\\([^\\]*)\\")
_UNFIT = re.compile(r"[\\^=\x00-\x1f]+")  # delimiters of PN, and control characters
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
    return "^".join(parts).rstrip("^")


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
