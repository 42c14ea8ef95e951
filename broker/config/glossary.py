"""What a word of HL7, DICOM or the RIS means: a field, an attribute, an error code, a table, a state, an event, a condition."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom.datadict import keyword_dict, keyword_for_tag, tag_for_keyword

from broker.dicom.standard import attribute
from broker.hl7 import charset, standard
from broker.hl7.path import parse
from broker.hl7.tables import CONDITIONS
from broker.pipeline.fields import DICOM_FIELDS, HL7_FIELDS
from broker.pipeline.header import PSEUDO
from broker.pipeline.shape import did_you_mean
from broker.pipeline.subject import EVENTS
from broker.ris.states import TABLES

_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),? ?([0-9A-Fa-f]{4})\)?")
_HL7_TABLE = re.compile(r"(?:HL7|table )?(\d{4})", re.IGNORECASE)
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")
_MESSAGE = re.compile(r"[A-Z]{3}[\^_][A-Z][0-9A-Z]\d(?:\^\w+)?")
_MOST_CODES = 80  # of a table, in one text

CONDITION = r"""A condition decides whether a route accepts a message, a step runs or a target is sent to.

  PATH exists                      there is a value
  PATH is missing                  there is none
  PATH = TEXT, PATH != TEXT        the value is, or is not, this text
  PATH < TEXT, <=, >, >=           as numbers when both are numbers, else as text
  PATH in [TEXT, TEXT]             one of these; PATH not in [..] for none
  PATH matches PATTERN             a regular expression finds something in it
  and, or, not, ( )                put conditions together; and binds closer than or

A text with blanks or signs stands in quotes: 'MRI HEAD'. A path with [*] holds when any of its values does.
Paths: PID-3.1, OBX[2]-5, PID-3[*].4, ORC[2]>OBR-4 in HL7; PatientID or Sequence.Keyword in DICOM, and kind, sender, uid; in a route
from: ris, event, exam.status, order.id and every other reference.

Example:

  when: MSH-9.1 in [ORM, OMG] and PV1-2 != E and not OBR-4.1 matches ^X
"""


def explain(word: str, version: str = standard.DEFAULT) -> list[str]:
    """Return what is known of a word, one text for each thing that is called so; raises LookupError for an HL7 version there is not."""
    return [text for look in _LOOKS if (text := look(word, version))]


def unknown(word: str) -> str:
    """Return why a word that looks like a path is none, "" when it does not look like one."""
    if not re.match(r"[A-Z][A-Z0-9]{2}(\[|-\d)", word):
        return ""
    try:
        path = parse(word)
    except ValueError as error:
        return str(error)
    if path.segment not in standard.segments():
        return f"{path.segment} is no segment of HL7 {standard.DEFAULT}; {did_you_mean(path.segment, standard.segments())}"
    last = standard.fields(path.segment)
    if path.field > last:
        return f"{path.segment} has {last} fields in HL7 {standard.DEFAULT}"
    return f"{path.segment}-{path.field} has no part {path.component}" + (f".{path.subcomponent}" if path.subcomponent else "")


def words() -> Iterator[str]:
    """Yield words that `explain` knows, for suggestions: not all the fields there are."""
    yield from keyword_dict
    yield from ("condition", *EVENTS, *PSEUDO, *(f"{record} states" for record in TABLES))
    yield from {state for table in TABLES.values() for state in table.values()}
    for kinds in (HL7_FIELDS, DICOM_FIELDS):
        for fields in kinds.values():
            yield from (path for paths in fields.values() for path in paths)


def _condition(word: str, version: str) -> str:
    return CONDITION.rstrip() if word in ("condition", "conditions", "accept", "exists", "matches", "is missing") else ""


def _error(word: str, version: str) -> str:
    if not re.fullmatch(r"\d{1,3}", word) or int(word) not in CONDITIONS:
        return ""
    return f"{int(word)}: {CONDITIONS[int(word)]} (HL7 table 0357, message error condition code; stands in ERR-3)"


def _table(word: str, version: str) -> str:
    match = _HL7_TABLE.fullmatch(word)
    if not match:
        return ""
    number = match[1]
    if number == "0357":
        return "\n".join(
            ["HL7 table 0357: message error condition codes", "", *(f"  {code:<4}{text}" for code, text in CONDITIONS.items())]
        )
    codes = standard.values(number, version)
    if not codes:
        return ""
    shown = ", ".join(codes[:_MOST_CODES]) + (f" and {len(codes) - _MOST_CODES} more" if len(codes) > _MOST_CODES else "")
    return f"HL7 table {number}, version {version}\n\n  {shown}"


def _charset(word: str, version: str) -> str:
    """Explain a character set by either name: of HL7 table 0211, or DICOM's defined term."""
    declared = word if all(map(charset.find, word.split("~"))) else charset.of_dicom(word)
    if not declared:
        return ""
    names = "~".join(found.hl7 for name in declared.split("~") if (found := charset.find(name)))
    terms = "\\".join(charset.to_dicom(declared)) or "none, which is ASCII"
    return f"{word}: a character set\n\n  HL7 (MSH-18, table 0211)          {names}\n  DICOM Specific Character Set      {terms}"


def _field(word: str, version: str) -> str:
    try:
        path = parse(word)
    except ValueError:
        return ""
    found = standard.describe(word, version)
    if found is None:
        versions = standard.versions_of(word)
        return f"{word}: not in HL7 {version}; it is in {', '.join(versions)}" if versions else ""
    if not path.field:
        numbers = range(1, standard.fields(path.segment, version) + 1)
        return "\n".join([f"{word}: {found.name} (segment of HL7 {version})", "", *_parts(f"{path.segment}-", numbers, version)])
    lines = [f"{word}: {found.name}" + (f" ({found.datatype})" if found.datatype else ""), ""]
    facts = [f"HL7 {version}", "required" if found.required else "optional", *(["may repeat"] if found.repeats else [])]
    facts += [f"at most {found.length} characters"] if found.length else []
    lines.append(f"  {', '.join(facts)}")
    if found.table:
        codes = standard.values(found.table, version)
        own = "defined by HL7" if found.defined else "sites may add to it"
        lines.append(f"  table {found.table} ({own})" + (f": {', '.join(codes[:_MOST_CODES])}" if codes else ""))
    lines += [f"  the ris step reads it as {use}" for use in _uses(word)]
    parts = [] if path.subcomponent else _parts(f"{word}.", range(1, 30), version)
    if len(parts) > 1:
        lines += ["", *parts]
    return "\n".join(lines)


def _parts(prefix: str, numbers: range, version: str) -> list[str]:
    lines = []
    for number in numbers:
        part = standard.describe(f"{prefix}{number}", version)
        if part is not None:
            facts = [part.datatype, f"table {part.table}" if part.table else "", "required" if part.required and "." not in prefix else ""]
            name = part.name.rpartition(" / ")[2]
            lines.append(f"  {prefix}{number:<4} {name}" + (f" ({', '.join(filter(None, facts))})" if any(facts) else ""))
    return lines


def _uses(path: str) -> list[str]:
    """Return what the RIS takes a path for: "order: placer number"."""
    found = []
    for kinds in (HL7_FIELDS, DICOM_FIELDS):
        for kind, fields in kinds.items():
            found += [
                f"{kind}: {name.replace('_', ' ')}" for name, paths in fields.items() if path in [p.replace("[*]", "") for p in paths]
            ]
    return found


def _attribute(word: str, version: str) -> str:
    if word in PSEUDO:
        return f"{word}: {PSEUDO[word]} (of a DICOM request, in conditions and steps)"
    match = _TAG.fullmatch(word)
    keyword = keyword_for_tag(int(match[1] + match[2], 16)) if match else word
    found = attribute(keyword) if keyword else None
    if found is None:
        return ""
    tag = tag_for_keyword(found.keyword) or 0
    lines = [
        f"{keyword}: {found.name} ({tag >> 16:04X},{tag & 0xFFFF:04X})",
        "",
        f"  VR {found.vr}, {found.vm} value{'s' * (found.vm != '1')}",
    ]
    return "\n".join([*lines, *(f"  the ris step reads it as {use}" for use in _uses(keyword))])


def _message(word: str, version: str) -> str:
    if not _MESSAGE.fullmatch(word):
        return ""
    kind = word.replace("_", "^")
    segments = standard.structure(kind, version)
    return f"{kind}: a message of HL7 {version}\n\n  its segments: {', '.join(sorted(segments))}" if segments else ""


def _event(word: str, version: str) -> str:
    if word not in EVENTS:
        return ""
    return f"{word}: an event of the RIS; a route from: ris hears of it, as in\n\n  accept: event = {word}"


def _state(word: str, version: str) -> str:
    """Return what may follow a state, or all states of a record."""
    record, _, states = word.partition(" ")
    if states in ("state", "states") and record in TABLES:
        shown = dict.fromkeys(TABLES[record].values())
        return "\n".join([f"The states of {_a(record)}, and what may happen in each", "", *(_follows(record, state) for state in shown)])
    found = [_follows(record, word, f"{word} ({_a(record)})") for record, table in TABLES.items() if word in table.values()]
    return "\n".join(found)


def _follows(record: str, state: str, shown: str = "") -> str:
    after = [f"{event} → {new}" for (old, event), new in TABLES[record].items() if old == state]
    return f"  {shown or state}: {', '.join(after) or 'nothing may follow'}"


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


_LOOKS = (_condition, _error, _table, _charset, _field, _attribute, _message, _event, _state)
