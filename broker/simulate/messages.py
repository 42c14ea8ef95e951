"""The HL7 messages that the simulated EHR and the report author send, made from plain values.

They are written out field by field and not with `broker.hl7`, so that a mistake there cannot cancel itself out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.simulate.people import Person

_ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})
CODECS = {"UNICODE UTF-8": "utf-8", "8859/1": "latin-1", "": "ascii"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands in MSH besides the type."""

    control_id: str
    at: str  # YYYYMMDDHHMMSS
    application: str = "EHR"
    facility: str = "GENHOSP"
    version: str = "2.5.1"
    charset: str = "UNICODE UTF-8"  # table 0211


@dataclass(frozen=True, slots=True)
class OrderText:
    """What an order says, one ORC group."""

    placer: str
    code: str
    text: str
    priority: str  # S stat, A as soon as possible, R routine
    requested_at: str  # YYYYMMDDHHMM
    referrer: tuple[str, str, str]  # id, family, given
    reason: str = ""
    diagnoses: Sequence[tuple[str, str]] = ()  # ICD-10 code, text
    accession: str = ""  # only when the EHR gives one


@dataclass(frozen=True, slots=True)
class ReportText:
    """One version of a report."""

    accession: str
    placer: str
    code: str
    text: str
    status: str  # P F C X (table 0123)
    author: tuple[str, str, str]
    referrer: tuple[str, str, str]
    lines: Sequence[str]


def escape(text: str) -> str:
    """Return the text with the standard delimiters escaped."""
    return text.translate(_ESCAPES)


def adt(event: str, person: Person, envelope: Envelope) -> bytes:
    """Return ADT^A01, A04, A08 or A31."""
    structure = {"A04": "A01", "A08": "A01", "A31": "A05"}.get(event, event)
    return _join(envelope, f"ADT^{event}^ADT_{structure}", [f"EVN|{event}|{envelope.at}", pid(person, envelope), pv1(person)])


def merge(survivor: Person, retired: str, envelope: Envelope) -> bytes:
    """Return ADT^A40: the record number `retired` becomes the survivor's."""
    mrg = f"MRG|{retired}^^^{envelope.facility}^MR"
    return _join(envelope, "ADT^A40^ADT_A39", [f"EVN|A40|{envelope.at}", pid(survivor, envelope), mrg])


def order(kind: str, control: str, person: Person, text: OrderText, envelope: Envelope) -> bytes:
    """Return an order as `kind` (ORM^O01, OMG^O19, OMI^O23) with the order control `control` (NW, CA, DC, XO)."""
    provider = "^".join(map(escape, text.referrer))
    quantity = f"^^^{text.requested_at}^^{text.priority}"
    old = kind == "ORM^O01"
    orc = _segment("ORC", {1: control, 2: f"{text.placer}^EHR", 3: "", 7: quantity if old else "", 9: envelope.at, 12: provider})
    obr = {1: "1", 2: f"{text.placer}^EHR", 4: f"{escape(text.code)}^{escape(text.text)}^LOCAL", 13: escape(text.reason), 16: provider}
    if old:
        obr |= {5: text.priority, 27: quantity}
    if text.accession:
        obr |= {18: text.accession}
    segments = [pid(person, envelope), pv1(person), orc]
    if not old:
        segments.append(_segment("TQ1", {1: "1", 7: text.requested_at, 9: text.priority}))
    segments.append(_segment("OBR", obr))
    segments += [f"DG1|{n}||{code}^{escape(name)}^I10" for n, (code, name) in enumerate(text.diagnoses, 1)]
    return _join(envelope, f"{kind}^{kind.replace('^', '_')}", segments)


def report(person: Person, text: ReportText, envelope: Envelope) -> bytes:
    """Return ORU^R01 with one OBX for each line of the report."""
    author, referrer = "^".join(map(escape, text.author)), "^".join(map(escape, text.referrer))
    obr = _segment(
        "OBR",
        {
            1: "1",
            2: f"{text.placer}^EHR" if text.placer else "",
            3: f"{text.accession}^RIS",
            4: f"{escape(text.code)}^{escape(text.text)}^LOCAL",
            7: envelope.at,
            16: referrer,
            18: text.accession,
            22: envelope.at,
            25: text.status,
            32: author,
        },
    )
    orc = _segment("ORC", {1: "RE", 2: f"{text.placer}^EHR" if text.placer else "", 3: f"{text.accession}^RIS"})
    lines = [f"OBX|{n}|TX|59776-5^Procedure findings^LN||{escape(line)}||||||{text.status}" for n, line in enumerate(text.lines, 1)]
    return _join(envelope, "ORU^R01^ORU_R01", [pid(person, envelope), pv1(person), orc, obr, *lines])


def pid(person: Person, envelope: Envelope) -> str:
    """Return the PID segment."""
    return _segment(
        "PID",
        {
            1: "1",
            3: f"{person.mrn}^^^{envelope.facility}^MR",
            5: f"{escape(person.family)}^{escape(person.given)}^^^^^L",
            7: person.birth_date,
            8: person.sex,
            11: person.address,
            18: f"{person.account}^^^{envelope.facility}^AN",
        },
    )


def pv1(person: Person) -> str:
    """Return the PV1 segment of an outpatient visit."""
    return _segment("PV1", {1: "1", 2: "O", 3: "RAD", 19: person.visit})


def _segment(name: str, fields: dict[int, str]) -> str:
    values = [fields.get(n, "") for n in range(1, max(fields) + 1)]
    return "|".join([name, *values]).rstrip("|")


def _join(envelope: Envelope, kind: str, segments: Sequence[str]) -> bytes:
    parts = kind if envelope.version >= "2.4" else "^".join(kind.split("^")[:2])
    msh = _segment(
        "MSH|^~\\&",
        {
            1: envelope.application,
            2: envelope.facility,
            3: "BROKER",
            4: "RAD",
            5: envelope.at,
            7: parts,
            8: envelope.control_id,
            9: "P",
            10: envelope.version,
            16: envelope.charset,
        },
    )
    return ("\r".join([msh, *segments]) + "\r").encode(CODECS[envelope.charset])
