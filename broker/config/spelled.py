"""A whole message or header spelled out: every value with its place, its name and type in the standard, and what it means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset

from broker.dicom.dataset import name_of, value_of
from broker.hl7 import standard
from broker.hl7.message import Message
from broker.hl7.path import HEADERS
from broker.pipeline.fields import HL7_FIELDS
from broker.pipeline.tables import Table

# what the site's tables say of: the kind and field of `HL7_FIELDS`, and the table
_SITE = (
    ("patient", "sex", "sex"),
    ("order", "control", "order_control"),
    ("order", "procedure", "procedures"),
    ("order", "priority", "priority"),
    ("report", "status", "report_status"),
)
_TIME = re.compile(r"(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)(\d\d)?(\.\d+)?)?([+-]\d{4})?")
_DATES = frozenset({"TS", "DT", "DTM"})


@dataclass(frozen=True, slots=True)
class Spelled:
    """One value, or a segment's title (its value is "")."""

    path: str
    name: str
    datatype: str  # of HL7, or the VR; "" of a segment
    table: str  # HL7 table
    value: str  # plain text
    meaning: str  # "2026-03-02 10:00", "order_control: action new"


def spell(message: Message, tables: Mapping[str, Table]) -> Iterator[Spelled]:
    """Yield the segments of a message, and every value in them; `tables` are the site's."""
    version = message.version if message.version in standard.VERSIONS else standard.DEFAULT
    uses = {path: table for kind, field, table in _SITE for path in HL7_FIELDS[kind][field] if table in tables}
    counts: dict[str, int] = {}
    for name in message.segment_names():
        counts[name] = number = counts.get(name, 0) + 1
        segment = name if number == 1 else f"{name}[{number}]"
        yield Spelled(segment, standard.name_of(name, version) if re.fullmatch("[A-Z][A-Z0-9]{2}", name) else "", "", "", "", "")
        for path, plain in _values(message, segment):
            known = re.sub(r"\[\d+\]", "", path)
            found = standard.describe(known, version)
            use = uses.get(known) or uses.get(f"{known}.1")
            meaning = _meaning(plain, found, tables[use] if use else None, version)
            datatype, table = (found.datatype, found.table) if found else ("", "")
            yield Spelled(path, standard.name_of(known, version), datatype, table, plain, meaning)


def _values(message: Message, segment: str) -> Iterator[tuple[str, str]]:
    """Yield the paths and plain texts of all that is not empty, as deep as it goes."""
    separators = message.header()[1]
    raw = message.raw(segment)
    for field in range(1, raw.count(separators.field if separators.foreign else "|") + 2):
        path = f"{segment}-{field}"
        if segment in HEADERS and field <= 2:
            yield path, message.get(path)
            continue
        text = message.raw(path)
        repetitions = text.split("~")
        for number, repetition in enumerate(repetitions, 1):
            if repetition:
                place = f"{path}[{number}]" if len(repetitions) > 1 else path
                yield from _deeper(message, place, repetition, "^&")


def _deeper(message: Message, path: str, text: str, delimiters: str) -> Iterator[tuple[str, str]]:
    parts = text.split(delimiters[0]) if delimiters else [text]
    if len(parts) == 1 and (len(delimiters) < 2 or delimiters[1] not in text):
        yield path, message.get(path)
        return
    for number, part in enumerate(parts, 1):
        if part:
            yield from _deeper(message, f"{path}.{number}", part, delimiters[1:])


def _meaning(plain: str, found: standard.Field | None, table: Table | None, version: str) -> str:
    if plain == '""':
        return "to be deleted (HL7 null)"
    if table is not None:
        row = table.row(plain)
        if row is None:
            return f"not in table {table.name}"
        return f"{table.name}: " + ", ".join(f"{column} {text}" for column, text in list(row.items())[1:] if text)
    if found is None:
        return ""
    if found.datatype in _DATES and (moment := _TIME.fullmatch(plain)):
        return _shown(*moment.groups(""))
    codes = standard.values(found.table, version) if found.table and found.defined else ()
    return "" if not codes or plain in codes else f"not in HL7 table {found.table}"


def _shown(year: str, month: str, day: str, hour: str, minute: str, second: str, fraction: str, zone: str) -> str:
    date = "-".join(filter(None, (year, month, day)))
    time = ":".join(filter(None, (hour, minute, second))) + fraction
    return f"{date} {time} {zone}".strip()


def spell_header(header: Dataset, prefix: str = "") -> Iterator[Spelled]:
    """Yield the attributes of a DICOM header, items of sequences one by one."""
    for element in header:
        name = prefix + name_of(element)
        if element.VR == "SQ":
            yield Spelled(name, element.name, "SQ", "", f"{len(element.value or ())} items", "")
            for number, item in enumerate(element.value or (), 1):
                yield from spell_header(item, f"{name}." if number == 1 else f"{name}[{number}].")
            continue
        yield Spelled(name, element.name, element.VR, "", value_of(element), "")
