"""What the HL7 v2 standard says of a path, version by version: name, data type, table, length.

The tables are those of hl7apy, which are generated from the standard; a version is loaded when it is first asked for.
They hold no lengths, so those of the data types' components stand here (2.5.1 chapter 2.A).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from broker.hl7.path import Path, parse

VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")
DEFAULT = "2.5.1"

PRIMITIVE = frozenset({"ST", "TX", "FT", "NM", "SI", "ID", "IS", "DT", "TM", "DTM", "TN", "GTS"})
_COMPOSITE = "sequence"
_ANY = "ANYHL7SEGMENT"
_BY_TYPE: Mapping[str, int] = {"DT": 8, "TM": 16, "DTM": 24, "SI": 4, "NM": 16, "ST": 199, "IS": 20}
_NAME = (50, 30, 30, 20, 20)  # family name, given name, further names, suffix, prefix
_BY_COMPONENT: Mapping[str, tuple[int, ...]] = {  # 0: what its own type allows
    "CE": (20, 199, 20, 20, 199, 20),
    "CNE": (20, 199, 20, 20, 199, 20, 10, 10, 199),
    "CNN": (15, *_NAME, 5, 4, 20, 199, 6),
    "CP": (0, 2, 16, 16, 0, 1),
    "CWE": (20, 199, 20, 20, 199, 20, 10, 10, 199),
    "CX": (15, 1, 3, 0, 5),
    "EI": (199, 20, 199, 6),
    "FN": (50, 20, 50, 20, 50),
    "HD": (20, 199, 6),
    "MO": (16, 3),
    "MSG": (3, 3, 7),
    "PL": (20, 20, 20, 0, 20, 20, 20, 20, 199),
    "PT": (1, 1),
    "SAD": (120, 50, 12),
    "TQ": (0, 0, 6, 0, 0, 6, 199, 200, 1),
    "TS": (24, 1),
    "XAD": (0, 120, 50, 50, 12, 3, 3, 50, 20, 20, 1),
    "XCN": (15, 0, *_NAME[1:], 5, 4, 0, 1, 1, 3, 5),
    "XON": (50, 20, 4, 1, 3, 0, 5, 0, 1, 20),
    "XPN": (0, *_NAME[1:], 6, 1, 1),
    "XTN": (199, 3, 8, 199, 3, 5, 9, 5, 199, 4, 6, 199),
}
_BY_FIELD: Mapping[str, int] = {  # where a field is shorter or longer than its type (2.5.1 attribute tables)
    "MSH-8": 40, "MSH-10": 20, "MSH-14": 180, "MSA-2": 20, "MSA-3": 80, "ERR-7": 250, "ERR-8": 250,
    "PID-19": 16, "PID-23": 250, "OBR-13": 300, "OBR-18": 60, "OBR-19": 60, "OBR-20": 60, "OBR-21": 60,
    "OBX-4": 20, "OBX-7": 60, "FT1-2": 12, "FT1-8": 40, "FT1-9": 40, "FT1-10": 6, "IN1-36": 15, "TXA-12": 30,
}  # fmt: skip
SEGMENTS: Mapping[str, str] = {
    "MSH": "Message Header", "SFT": "Software Segment", "MSA": "Message Acknowledgment", "ERR": "Error", "EVN": "Event Type",
    "PID": "Patient Identification", "PD1": "Patient Additional Demographic", "NK1": "Next of Kin", "MRG": "Merge Patient Information",
    "PV1": "Patient Visit", "PV2": "Patient Visit - Additional Information", "AL1": "Patient Allergy Information",
    "ORC": "Common Order", "OBR": "Observation Request", "OBX": "Observation/Result", "NTE": "Notes and Comments",
    "TQ1": "Timing/Quantity", "IPC": "Imaging Procedure Control", "CTI": "Clinical Trial Identification", "SPM": "Specimen",
    "DG1": "Diagnosis", "PR1": "Procedures", "FT1": "Financial Transaction", "GT1": "Guarantor", "ACC": "Accident",
    "IN1": "Insurance", "IN2": "Insurance Additional Information", "IN3": "Insurance Additional Information, Certification",
    "SCH": "Scheduling Activity Information", "ARQ": "Appointment Request", "RGS": "Resource Group",
    "AIS": "Appointment Information", "AIG": "Appointment Information - General Resource",
    "AIL": "Appointment Information - Location Resource", "AIP": "Appointment Information - Personnel Resource",
    "TXA": "Transcription Document Header", "ROL": "Role", "QRD": "Query Definition", "QAK": "Query Acknowledgment",
    "FHS": "File Header", "BHS": "Batch Header", "BTS": "Batch Trailer", "FTS": "File Trailer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """What the standard says of one place in one version."""

    name: str  # "Patient Identifier List / Assigning Authority"; of a segment, its title
    datatype: str  # "CX"; "" of a segment, and where the type varies or was withdrawn
    table: str  # "0203", "" when there is none
    defined: bool  # whether HL7 defines the table (data type ID); users may add to all others
    repeats: bool  # of the field, or of the segment anywhere
    required: bool
    length: int | None  # characters, of a primitive type
    version: str


def describe(path: str, version: str = DEFAULT) -> Field | None:
    """Return what the version says of a path, None when it has no such place, as for every Z segment.

    Raises ValueError for what is no path, LookupError for a version there is not.
    """
    return _describe(parse(path.rpartition(">")[2]), version)


def name_of(path: str, version: str = DEFAULT) -> str:
    """Return the name of a path, of the nearest place around it that has one, or ""."""
    while path:
        if found := describe(path, version):
            return found.name
        path = re.sub(r"([.-][^.-]*|[^.-]+)$", "", path)
    return ""


def versions_of(path: str) -> tuple[str, ...]:
    """Return the versions that have a place at the path; raises ValueError for what is no path."""
    return tuple(version for version in VERSIONS if describe(path, version))


def fields(segment: str, version: str = DEFAULT) -> int:
    """Return the number of a segment's last field, 0 when the version has no such segment."""
    return max(_fields(segment, version), default=0)


def segments(version: str = DEFAULT) -> frozenset[str]:
    """Return the names of a version's segments."""
    return frozenset(_module(version, "segments").SEGMENTS) - {_ANY}


def values(table: str, version: str = DEFAULT) -> tuple[str, ...]:
    """Return the codes of a table; of the nearest later version where this one's are not listed."""
    for one in VERSIONS[VERSIONS.index(version) :]:
        if found := _tables(one).get(f"HL7{table}"):
            return tuple(code for code in found[1] if code and code != "null")
    return ()


def structure(message: str, version: str = DEFAULT) -> frozenset[str]:
    """Return the segments a message such as `OMI^O23` or `ORU_R01` may have; empty when the version does not know it."""
    kind, event = [*message.replace("_", "^").split("^"), ""][:2]
    known = _module(version, "messages").MESSAGES
    names = (message.rpartition("^")[2], f"{kind}_{event}", kind)
    return next((frozenset(_segments(known[name])) for name in names if name in known), frozenset())


def _describe(path: Path, version: str) -> Field | None:
    if not path.field:
        known = path.segment in segments(version)
        return Field(SEGMENTS.get(path.segment, path.segment), "", "", False, True, False, None, version) if known else None
    element = _fields(path.segment, version).get(path.field)
    if element is None:
        return None
    entry, (least, most) = element
    names, length = [_title(entry)], _BY_FIELD.get(f"{path.segment}-{path.field}")
    required, repeats = least > 0, most != 1
    for part in (path.component, path.subcomponent):
        found = _part(entry, part)
        if found is None:
            return None
        if found is not entry:
            kind, entry = _type(entry), found
            names.append(_title(entry))
            length = (*_BY_COMPONENT.get(kind, ()), *[0] * part)[part - 1] or None
    table = re.sub(r"^HL7", "", str(entry[4] or ""))
    kind = _type(entry)
    length = length or _BY_TYPE.get(kind) if kind in PRIMITIVE else None
    return Field(" / ".join(names), kind, table, kind == "ID", repeats, required, length, version)


def _part(entry: Any, number: int) -> Any | None:
    """Return a part of a composite, the entry itself where there are no parts to tell apart, None where the part does not exist."""
    if not number or _type(entry) == "":
        return entry
    if entry[0] == _COMPOSITE and entry[1]:
        return entry[1][number - 1][1] if number <= len(entry[1]) else None
    return entry if number == 1 or _type(entry) not in PRIMITIVE else None


def _type(entry: Any) -> str:
    """Return the data type, "" where it varies, was withdrawn or is not known."""
    name = str(entry[2] or "")
    return name if entry[0] == _COMPOSITE or name in PRIMITIVE else ""


_SMALL = frozenset({"of", "and", "or", "the", "to", "in", "for", "by", "with", "on", "at", "from", "a", "an"})
_CAPITALS = frozenset({"ID", "SSN", "UID", "HL7", "URL", "OID", "DRG", "SOP", "ISO", "CPT", "ICD", "NDC", "PCP", "VIP", "DEA"})


def _title(entry: Any) -> str:
    words = str(entry[3] or "").replace("_S_", "'s_").replace("DATE_TIME", "DATE/TIME").split("_")
    return " ".join(word.lower() if at and word.lower() in _SMALL else _capital(word) for at, word in enumerate(words))


def _capital(word: str) -> str:
    if word in _CAPITALS or word in SEGMENTS:
        return word
    return "/".join(part[:1] + part[1:].lower() for part in word.split("/"))


@lru_cache(maxsize=512)
def _fields(segment: str, version: str) -> Mapping[int, tuple[Any, tuple[int, int]]]:
    """Return a segment's fields by their number: what they are, and how often they stand there (-1: without limit)."""
    known = _module(version, "segments").SEGMENTS.get(segment) if segment != _ANY else None
    elements = known[1] if known is not None and len(known) == 2 else ()
    return {int(element[0].rpartition("_")[2]): (_whole(element[1]), element[2]) for element in elements}


def _whole(entry: Any) -> Any:
    """Return an entry without what some versions have too much in it: kind, parts, type, name, table."""
    return (entry[0], entry[1], *entry[-4:-1])


def _segments(node: Any) -> Iterator[str]:
    for name, inner, _, kind in node[1]:
        if kind == "SEG":
            yield name
        else:
            yield from _segments(inner)


def _tables(version: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(_module(version, "tables"), "TABLES", {})
    return found


@lru_cache(maxsize=64)
def _module(version: str, name: str) -> Any:
    if version not in VERSIONS:
        raise LookupError(f"there is no HL7 version {version}; known: {', '.join(VERSIONS)}")
    import hl7apy  # type: ignore[import-untyped]  # here, so that a broker that runs does not load it

    try:
        return import_module(f"{hl7apy.__name__}.v{version.replace('.', '_')}.{name}")
    except ModuleNotFoundError:  # the oldest versions have no tables
        return None
