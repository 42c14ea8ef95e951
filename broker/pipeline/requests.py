"""HL7 messages as requests to the RIS: registration, merge, order, report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from broker.errors import MessageError
from broker.hl7.message import Message
from broker.pipeline import clinical
from broker.pipeline.fields import Fields
from broker.pipeline.tables import Table
from broker.ris.changes import NULL
from broker.ris.entities import Composite
from broker.ris.events import (
    Identifier,
    MergePatients,
    OrderAction,
    PatientData,
    PlaceOrder,
    Procedure,
    ReceiveReport,
    RegisterPatient,
    Request,
)
from broker.ris.names import component

Tables = Mapping[str, Table]

VOCABULARY: Mapping[str, str] = {
    "patient": "",
    "merge": "",
    "order": "order_control",
    "report": "report_status",
    "performed": "discontinuation",
}
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "order_control": ("action",),
    "report_status": ("status",),
    "discontinuation": ("scheme", "action", "meaning"),
    "sex": ("code",),
    "priority": ("code",),
    "procedures": ("name", "modality", "duration", "cpt", "modifiers", "steps"),
}
ACTIONS: Mapping[str, OrderAction] = {action: action for action in get_args(OrderAction)}

_TEXT_TYPES = ("TX", "FT", "ST", "")
_CODE = re.compile(r"[A-Z][0-9][0-9A-Z](\.?[0-9A-Z]{1,4})?|[0-9]{3}(\.[0-9]{1,2})?|[EV][0-9]{2,3}(\.[0-9]{1,2})?")  # ICD-10, ICD-9


def register_patient(message: Message, fields: Fields, tables: Tables) -> RegisterPatient:
    """Return the registration; raises MessageError when there is no identifier."""
    return RegisterPatient(patient_data(message, fields, tables))


def merge_patients(message: Message, fields: Fields, tables: Tables) -> MergePatients:
    """Return the merge; raises MessageError when either side has no identifier."""
    path = fields["retired"][0]
    retired = _identifiers(_raw(message, fields["retired"]))
    if not retired:
        raise MessageError(f"{path}.1", "required field is empty", 101)
    return MergePatients(patient_data(message, fields, tables), retired)


def place_order(message: Message, fields: Fields, tables: Tables) -> PlaceOrder:
    """Return what one order group asks for; raises MessageError for a code that is in no table or a field that is missing."""
    texts: dict[str, Any] = {name: _found(message, fields[name])[1] for name in _NUMBERS}
    texts |= {name: _stated(message, fields[name]) for name in _STATEMENTS}
    texts |= {name: Composite(_raw(message, fields[name])) for name in ("provider", "copies_to", "location", "visit", "performer")}
    texts |= clinical.of_order(message, fields)
    return PlaceOrder(
        action=_action(message, fields["control"], tables["order_control"]),
        patient=patient_data(message, fields, tables),
        procedure=_procedure(message, fields["procedure"], tables["procedures"]),
        priority=_mapped(message, fields["priority"], tables["priority"], "code"),
        diagnoses=_diagnoses(message, fields["diagnoses"]),
        **texts,
    )


_NUMBERS = ("placer_number", "placer_authority", "filler_number", "filler_authority", "group_number", "accession", "requested_procedure_id")
_STATEMENTS = (
    "study_uid",
    "accession_issuer",
    "ordered_at",
    "requested_at",
    "station",
    "reason",
    "patient_class",
    "transport",
    "contrast",
    "vip",
    "history",
)


def receive_report(message: Message, fields: Fields, tables: Tables) -> ReceiveReport:
    """Return one version of a report; raises MessageError when its status is missing or in no table."""
    path, code = _found(message, fields["status"])
    if not code:
        raise MessageError(fields["status"][0], "required field is empty", 101)
    status = tables["report_status"].lookup(code, "status")
    if status is None:
        raise MessageError(path, f"not in table {tables['report_status'].name}", 103)
    texts: dict[str, Any] = {name: _found(message, fields[name])[1] for name in ("accession", "placer_number", "study_uid", "reported_at")}
    return ReceiveReport(
        status=status,
        text=_report_text(message, fields["text"]),
        author=Composite(_raw(message, fields["author"])),
        diagnoses=_diagnoses(message, fields["diagnoses"]),
        identifiers=_identifiers(_raw(message, fields["identifiers"])),
        **texts,
    )


def patient_data(message: Message, fields: Fields, tables: Tables) -> PatientData:
    """Return what the message says of the patient; raises MessageError when there is no identifier."""
    identifiers = _identifiers(_raw(message, fields["identifiers"]))
    if not identifiers:
        raise MessageError(f"{fields['identifiers'][0]}.1", "required field is empty", 101)
    name = _raw(message, fields["name"])
    family, given, middle, suffix, prefix = (component(name, number) for number in range(1, 6))
    allergies, alerts = clinical.allergies(message, fields["allergies"])
    return PatientData(
        identifiers=identifiers,
        family=family,
        given=given,
        middle=middle,
        prefix=prefix,
        suffix=suffix,
        birth_date=_stated(message, fields["birth_date"])[:8],
        sex=_mapped(message, fields["sex"], tables["sex"], "code"),
        address=Composite(_raw(message, fields["address"])),
        phone=Composite(_raw(message, fields["phone"])),
        account=Composite(_raw(message, fields["account"])),
        allergies=allergies,
        alerts=alerts,
    )


def _identifiers(field: str) -> tuple[Identifier, ...]:
    found = (Identifier(component(one, 1), component(one, 4), component(one, 5)) for one in field.split("~"))
    return tuple(dict.fromkeys(identifier for identifier in found if identifier.value not in ("", NULL)))


def _found(message: Message, paths: tuple[str, ...]) -> tuple[str, str]:
    """Return the first path that has text, and its text; the HL7 null is none."""
    get = message.get
    for path in paths:
        text = get(path)
        if text and text != NULL:
            return path, text
    return paths[0], ""


def _stated(message: Message, paths: tuple[str, ...]) -> str:
    """Return the first text; the HL7 null, which clears what is known, is one."""
    get = message.get
    for path in paths:
        if text := get(path):
            return text
    return ""


def _raw(message: Message, paths: tuple[str, ...]) -> str:
    for path in paths:
        if text := message.raw(path):
            return text
    return ""


def _mapped(message: Message, paths: tuple[str, ...], table: Table, column: str) -> str:
    code = _stated(message, paths)
    if not code or code == NULL:
        return code
    value = table.lookup(code, column)
    if value is None:
        raise MessageError(_found(message, paths)[0], f"not in table {table.name}", 103)
    return value


def _action(message: Message, paths: tuple[str, ...], table: Table) -> OrderAction:
    if not _found(message, paths)[1]:
        raise MessageError(paths[0], "required field is empty", 101)
    return ACTIONS[_mapped(message, paths, table, "action")]


def _procedure(message: Message, paths: tuple[str, ...], table: Table) -> Procedure | None:
    path, code = _found(message, paths)
    if not code:
        return None
    row = table.row(code)
    if row is None:
        raise MessageError(path, f"not in table {table.name}", 103)
    return procedure(code, row)


def procedure(code: str, row: Mapping[str, str]) -> Procedure:
    """Return the procedure of a table row; modifiers are separated by blanks, steps (`code name`) by semicolons."""
    steps = (step.strip().partition(" ") for step in row["steps"].split(";") if step.strip())
    return Procedure(
        code=code,
        name=row["name"],
        modality=row["modality"],
        duration=int(row["duration"]),
        cpt=row["cpt"],
        modifiers=tuple(row["modifiers"].split()),
        steps=tuple((first, name or row["name"]) for first, _, name in steps),
        contrast=row.get("contrast", ""),
    )


def _diagnoses(message: Message, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ICD codes of the first path that has any; free text in a coded field is no diagnosis."""
    for path in paths:
        if codes := tuple(dict.fromkeys(code for code in message.all(path) if _CODE.fullmatch(code))):
            return codes
    return ()


def _report_text(message: Message, paths: tuple[str, ...]) -> str:
    """Return the text observations, one a line; a path that repeats runs over the segments."""
    for path in paths:
        if not path.startswith("OBX[*]"):
            text = "\n".join(message.all(path))
        else:
            own = path.removeprefix("OBX[*]")
            lines = (message.all(f"OBX[{n}]{own}[*]") for n in message.segments("OBX") if message.get(f"OBX[{n}]-2") in _TEXT_TYPES)
            text = "\n".join(line for found in lines for line in found)
        if text:
            return text
    return ""


Maker = Callable[[Message, Fields, Tables], Request]

MAKERS: Mapping[str, Maker] = {"patient": register_patient, "merge": merge_patients, "order": place_order, "report": receive_report}
