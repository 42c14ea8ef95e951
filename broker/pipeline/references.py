"""References in braces, to what the RIS knows: `{exam.accession}`, `{patient.phone?}`, `{exam.status | order_status}`; and in a
step also to the message itself: `{PID-5.1}`.

`?` allows it to be empty, `a or b` takes the first that is not, a text in single quotes is itself, `| table` or
`| table.column` sends the value through a code table. A `Composite` is inserted as it stands, plain text is escaped by
whoever builds the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

from broker.errors import MessageError
from broker.hl7.delimiters import STANDARD
from broker.pipeline.shape import Mistakes, did_you_mean
from broker.pipeline.tables import Table
from broker.ris.doses import ExamDose
from broker.ris.entities import Charge, Composite, Exam, Order, Patient, Performed, Report, Step
from broker.ris.names import dicom_date, dicom_sex, fitted, patient_to_pn, xcn_to_pn

Scope = Mapping[str, Any]  # the view of an event, and `site`, `now`, `control_id`; `step` inside a repetition
Value = str | tuple[str, ...]
_AS_THEY_ARE = (str, tuple)

ROOTS: dict[str, type] = {
    "patient": Patient,
    "order": Order,
    "exam": Exam,
    "step": Step,
    "performed": Performed,
    "dose": ExamDose,
    "report": Report,
    "charge": Charge,
}
SITE = {"name": "the site's name", "authority": "its assigning authority", "application": "the broker's name in MSH-3"}
PLAIN = {
    "event": "the name of the event",
    "accession": "the accession number of the event",
    "reason": "why the event happened",
    "now": "the time, as an HL7 timestamp in the site's time zone",
    "control_id": "the control id of the message that is built",
    "number": "the number of the repetition, from 1",
}


escape = STANDARD.escaped  # plain text as it stands in an HL7 field


def _joined(separator: str, *parts: str) -> str:
    return separator.join(parts).rstrip(separator)


def _identifiers(*, merged: bool) -> Callable[[Scope], Composite]:
    def identifiers(scope: Scope) -> Composite:
        own = [i for i in scope.get("identifiers") or () if (i.merged_from is not None) is merged]
        return Composite("~".join(_joined("^", escape(i.value), "", "", escape(i.authority), escape(i.type)) for i in own))

    return identifiers


def _first_identifier(name: str) -> Callable[[Scope], str]:
    return lambda scope: next((getattr(i, name) for i in scope.get("identifiers") or () if i.merged_from is None), "")


def _name(scope: Scope) -> Composite:
    p: Patient | None = scope.get("patient")
    return Composite(_joined("^", *map(escape, (p.family, p.given, p.middle, p.suffix, p.prefix)))) if p else Composite()


def _of_patient(read: Callable[[Patient], str]) -> Callable[[Scope], str]:
    return lambda scope: read(scope["patient"]) if scope.get("patient") else ""


def _of(root: str, read: Callable[[Any], str]) -> Callable[[Scope], str]:
    return lambda scope: read(scope[root]) if scope.get(root) else ""


def _entity_identifier(number: str, authority: str) -> Callable[[Scope], Composite]:
    def entity_identifier(scope: Scope) -> Composite:
        order = scope.get("order")
        return Composite(_joined("^", escape(getattr(order, number)), escape(getattr(order, authority)))) if order else Composite()

    return entity_identifier


def _diagnoses(root: str) -> Callable[[Scope], Composite]:
    def diagnoses(scope: Scope) -> Composite:
        record = scope.get(root)
        return Composite("~".join(f"{escape(code)}^^{_coding_system(code)}" for code in record.diagnoses)) if record else Composite()

    return diagnoses


def _coding_system(code: str) -> str:
    """HL7 table 0396: a code that begins with a digit is none of ICD-10."""
    return "I9C" if code[:1].isdigit() else "I10"


def _discontinuation(scope: Scope) -> Composite:
    performed: Performed | None = scope.get("performed")
    said = (performed.reason_code, performed.reason, performed.reason_scheme) if performed else ()
    return Composite(_joined("^", *map(escape, said)))


def _priority_code(scope: Scope) -> str:
    priority = scope["exam"].priority if scope.get("exam") else ""
    return _PRIORITY.get(priority, priority)


def _result_status(scope: Scope) -> str:
    return _RESULT_STATUS.get(scope["report"].status, "") if scope.get("report") else ""


def _author(scope: Scope) -> Composite:
    """OBR-32 is an NDL, which keeps the person in subcomponents, though many send an XCN."""
    author = scope["report"].author if scope.get("report") else ""
    first = author.partition("~")[0]
    return Composite(first.partition("^")[0].replace("&", "^") if "&" in first.partition("^")[0] else first)


_PRIORITY = {"STAT": "S", "ASAP": "A", "ROUTINE": "R"}  # HL7 table 0485
_RESULT_STATUS = {"preliminary": "P", "final": "F", "corrected": "C", "cancelled": "X"}  # HL7 table 0123

DERIVED: dict[str, tuple[str, Callable[[Scope], Value]]] = {
    "patient.identifier": ("the first identifier, without its authority", _first_identifier("value")),
    "patient.authority": ("the assigning authority of the first identifier", _first_identifier("authority")),
    "patient.identifiers": ("every identifier with authority and type (CX)", _identifiers(merged=False)),
    "patient.retired_identifiers": ("the identifiers that came with a merge (CX)", _identifiers(merged=True)),
    "patient.name": ("the name as HL7 writes it (XPN)", _name),
    "patient.person_name": ("the name as DICOM writes it (PN)", _of_patient(patient_to_pn)),
    "patient.dicom_sex": ("the sex as DICOM writes it", _of_patient(lambda patient: dicom_sex(patient.sex))),
    "patient.dicom_birth_date": ("the date of birth as DICOM writes it (DA)", _of_patient(lambda patient: dicom_date(patient.birth_date))),
    "order.placer": ("the placer order number with its authority (EI)", _entity_identifier("placer_number", "placer_authority")),
    "order.filler": ("the filler order number with its authority (EI)", _entity_identifier("filler_number", "filler_authority")),
    "order.referring_physician": ("who ordered it, as DICOM writes a name (PN)", _of("order", lambda order: xcn_to_pn(order.provider))),
    "order.dicom_reason": ("the reason as a DICOM description (LO)", _of("order", lambda order: fitted(order.reason))),
    "exam.description": ("the procedure's name as a DICOM description (LO)", _of("exam", lambda exam: fitted(exam.procedure_name))),
    "step.description": ("the protocol's name as a DICOM description (LO)", _of("step", lambda step: fitted(step.protocol_name))),
    "order.icd10": ("the diagnoses as coded elements (CE, I10 or I9C)", _diagnoses("order")),
    "exam.priority_code": ("the priority as HL7 table 0485 has it: S, A or R", _priority_code),
    "performed.discontinuation": ("why the modality ended it early, as a coded element (CE)", _discontinuation),
    "report.icd10": ("the diagnoses as coded elements (CE, I10 or I9C)", _diagnoses("report")),
    "report.result_status": ("its status as HL7 table 0123 has it: P, F, C or X", _result_status),
    "report.radiologist": ("who signed it, as an XCN", _author),
    "charge.icd10": ("the diagnoses as coded elements (CE, I10 or I9C)", _diagnoses("charge")),
}


def names() -> list[str]:
    """Return every reference there is."""
    return sorted([*PLAIN, *(f"site.{n}" for n in SITE), *DERIVED, *(f"{r}.{f.name}" for r, kind in ROOTS.items() for f in fields(kind))])


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(names())


def check(name: str) -> str:
    """Return what is wrong with a reference, "" when nothing is."""
    return "" if name in _known() else f"{name} is nothing the RIS knows; {did_you_mean(name, _candidates(name))}"


def _candidates(name: str) -> list[str]:
    root = name.partition(".")[0]
    return [n for n in _known() if n.startswith(f"{root}.")] or [*PLAIN, *ROOTS, "site"]


@lru_cache(maxsize=1024)
def getter(name: str) -> Callable[[Scope], Value]:
    """Return the function that reads a reference; raises LookupError when there is none of that name."""
    if name not in _known():
        raise LookupError(check(name))
    if name in DERIVED:
        return DERIVED[name][1]
    if name in ("event", "accession", "reason"):
        field = "name" if name == "event" else name
        return lambda scope: getattr(scope["event"], field) if scope.get("event") is not None else ""
    root, _, field = name.partition(".")
    if not field:
        return lambda scope: str(scope.get(root, ""))
    if root == "site":
        return lambda scope: str(scope["site"].get(field, ""))

    of = attrgetter(field)

    def read(scope: Scope) -> Value:
        record = scope.get(root)
        if record is None:
            return ""
        value = of(record)
        return value if isinstance(value, _AS_THEY_ARE) else "" if value is None else str(value)

    return read


def resolve(name: str, scope: Scope) -> Value:
    """Return the value of a reference, "" when it is empty; raises LookupError when there is none of that name."""
    return getter(name)(scope)


@dataclass(frozen=True, slots=True)
class Reference:
    """One pair of braces, compiled."""

    text: str
    getters: tuple[Callable[[Scope], Value], ...]
    optional: bool
    table: Table | None
    column: str

    def value(self, scope: Scope) -> Value:
        """Return the value; raises MessageError when it is empty or not in the table."""
        value: Value = ""
        for get in self.getters:
            if value := get(scope):
                break
        else:
            if self.optional:
                return ""
            raise MessageError("", f"{{{self.text}}} is empty", 101)
        if self.table is None:
            return value
        mapped = self.table.lookup(value if isinstance(value, str) else value[0], self.column)
        if mapped is None:
            raise MessageError("", f"{{{self.text}}} is not in table {self.table.name}", 103)
        return mapped


@dataclass(frozen=True, slots=True)
class Template:
    """Text with references in it, compiled."""

    parts: tuple[str | Reference, ...]

    @property
    def constant(self) -> str | None:
        """The text, when there is no reference in it."""
        return "".join(map(str, self.parts)) if not any(isinstance(p, Reference) for p in self.parts) else None

    def hl7(self, scope: Scope) -> str:
        """Return the text as it stands in an HL7 field: plain text escaped, composites as they are, a list repeated."""
        return "".join(escape(p) if isinstance(p, str) else _hl7(p.value(scope)) for p in self.parts)

    def writer(self, path: str) -> Callable[[Scope], str]:
        """Return `hl7` as one function; its MessageError names the path."""
        if len(self.parts) == 1 and isinstance(only := self.parts[0], Reference) and len(only.getters) == 1 and only.table is None:
            return _plain_writer(only, only.getters[0], path)

        def write(scope: Scope) -> str:
            try:
                return self.hl7(scope)
            except MessageError as error:
                raise MessageError(path, error.why, error.code) from None

        return write

    def plain(self, scope: Scope) -> str:
        """Return the text without escapes, the values of a list separated by backslashes as DICOM does."""
        return "".join(p if isinstance(p, str) else _plain(p.value(scope)) for p in self.parts)


def _hl7(value: Value) -> str:
    if isinstance(value, Composite):
        return value
    return escape(value) if isinstance(value, str) else "~".join(map(escape, value))


def _plain_writer(reference: Reference, get: Callable[[Scope], Value], path: str) -> Callable[[Scope], str]:
    """Return the writer of one reference that stands alone: what nearly every field of a layout is."""
    optional = reference.optional

    def write(scope: Scope) -> str:
        value = get(scope)
        if not value:
            if optional:
                return ""
            raise MessageError(path, f"{{{reference.text}}} is empty", 101)
        return escape(value) if type(value) is str else _hl7(value)

    return write


def _plain(value: Value) -> str:
    return value if isinstance(value, str) else "\\".join(value)


@dataclass(frozen=True, slots=True)
class Field:
    """A path of the message in braces."""

    path: str
    hl7: bool

    def composite(self, scope: Scope) -> Value:
        """Return what stands there, with its parts."""
        subject = scope["subject"]
        return Composite(subject.raw(self.path)) if self.hl7 else tuple(subject.all(self.path))

    def text(self, scope: Scope) -> Value:
        """Return the text there, as code tables know it."""
        value: str = scope["subject"].get(self.path)
        return value


_BRACES = re.compile(r"\{([^{}]*)\}")


def compile_template(
    text: str, tables: Mapping[str, Table], mistakes: Mistakes, field: Callable[[str], Field | str | None] = lambda name: None
) -> Template:
    """Return the template; what is wrong with it is added to `mistakes`.

    `field` tells the paths of a message from the names of records: it returns the field, or what is wrong with it, or None.
    """
    parts: list[str | Reference] = []
    end = 0
    for match in _BRACES.finditer(text):
        if match.start() > end:
            parts.append(text[end : match.start()])
        parts.append(_reference(match.group(1), tables, mistakes, field, alone=match[0] == text))
        end = match.end()
    rest = text[end:]
    if rest or not parts:
        parts.append(rest)
    if any(isinstance(p, str) and ("{" in p or "}" in p) for p in parts):
        mistakes.add("a brace without its partner", "a reference is written like {exam.accession}")
    return Template(tuple(parts))


def _reference(
    text: str, tables: Mapping[str, Table], mistakes: Mistakes, field: Callable[[str], Field | str | None], *, alone: bool
) -> Reference:
    expression, _, through = (part.strip() for part in text.partition("|"))
    optional = expression.endswith("?")
    getters = []
    for name in re.split(r"\s+or\s+", expression.removesuffix("?").strip()):
        if name[:1] == "'" == name[-1:] and len(name) > 1:
            getters.append(_literal(name[1:-1]))
        elif (found := field(name)) is not None:
            if isinstance(found, Field):
                get = found.text if through else found.composite
                getters.append(get if alone else _unless_null(get))
            else:
                mistakes.add(found)
        elif wrong := check(name):
            mistakes.add(wrong)
        else:
            getters.append(getter(name))
    table, column = _through(through, tables, mistakes) if through else (None, "")
    return Reference(text.strip(), tuple(getters), optional, table, column)


def _unless_null(get: Callable[[Scope], Value]) -> Callable[[Scope], Value]:
    """Return what reads the null of HL7, which means something only where it stands alone, as nothing."""

    def read(scope: Scope) -> Value:
        value = get(scope)
        return "" if value == '""' else value

    return read


def _literal(text: str) -> Callable[[Scope], Value]:
    return lambda scope: text


def _through(text: str, tables: Mapping[str, Table], mistakes: Mistakes) -> tuple[Table | None, str]:
    name, _, column = text.partition(".")
    table = tables.get(name)
    if table is None:
        mistakes.add(f"there is no table {name}", did_you_mean(name, tables))
    elif column and column not in table.columns:
        mistakes.add(f"table {name} has no column {column}", did_you_mean(column, table.columns))
        return None, ""
    return table, column
