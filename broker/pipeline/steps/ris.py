"""`ris`: what the message says becomes a request to the RIS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

from broker.errors import MessageError
from broker.pipeline import performed, requests
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.fields import DICOM_FIELDS, HL7_FIELDS, TABLES
from broker.pipeline.shape import did_you_mean
from broker.pipeline.subject import Subject
from broker.ris import times
from broker.ris.events import Request
from broker.ris.images import ACCESSION, BY, PATIENT, STUDY, WINDOW
from broker.spec import Option, Spec

_TIMES = ("ordered_at", "requested_at", "reported_at")

SPEC = Spec(
    name="ris",
    kind="step",
    summary="Applies the message to the RIS: its patient, order, performed step, image or report moves by the tables of legal transitions.",
    options=(
        Option(
            "apply",
            "text",
            "What the message is: `patient` registers or updates, `merge` merges, `order` places, changes or cancels, `report` files a "
            "version; from a modality `performed` is an MPPS and `image` a stored object.",
            choices=("patient", "merge", "order", "report", "performed", "image"),
        ),
        Option(
            "vocabulary",
            "text",
            "Table of the sender's order controls, report states or, of an MPPS, discontinuation reasons.",
            default="",
            example="order_control",
        ),
        Option("procedures", "text", "Table of order codes.", default="procedures"),
        Option(
            "fields",
            "mapping",
            "Where this sender keeps a field, when it is not where the standard has it.",
            default=None,
            example={"accession": "OBR-3.1"},
        ),
        Option(
            "incomplete",
            "text",
            "An MPPS that lacks what it must have (PS3.4 table F.7.2-1), or changes what may not be changed: `refuse` it, or `take` it as "
            "it is, without such changes.",
            default="refuse",
            choices=("refuse", "take"),
        ),
        Option(
            "match",
            "texts",
            "Of an image: how its exam is found. `PatientID` stands for patient, modality and time: when just one exam fits, that one. "
            "Left out, such exams are only proposed to a person.",
            default=(STUDY, ACCESSION),
            choices=BY,
            example=[STUDY, ACCESSION, PATIENT],
        ),
        Option(
            "window",
            "duration",
            "Of an image that is found by its patient: how far its time may be from the exam's.",
            default=f"{WINDOW // 60}h",
        ),
    ),
    example="ris: {apply: order, vocabulary: order_control}",
    short="apply",
)


def _compile(settings: Mapping[str, Any], compilation: Compilation) -> Step:
    kind = settings["apply"]
    known = HL7_FIELDS if compilation.protocol == "hl7" else DICOM_FIELDS
    if kind not in known:
        compilation.mistakes.add(f"a message of {compilation.protocol} is no {kind}", did_you_mean(kind, known), key=("apply",))
        return lambda work: None
    if kind in ("order", "report") and compilation.each != kind:
        what = f"a message may hold several of them, and only the first {kind} would be read"
        compilation.mistakes.add(what, f"add each: {kind} to the route", key=("apply",))
    fields = dict(known[kind])
    for name, paths in (settings["fields"] or {}).items():
        if name not in fields:
            compilation.mistakes.add(f"{kind} has no field {name}", did_you_mean(name, fields), key=("fields", name))
        fields[name] = tuple(paths) if isinstance(paths, list) else (str(paths),)
    for name, paths in fields.items():
        for path in paths:
            for part in path.split("+"):
                compilation.path(part, "fields", name)
    make = _maker(kind, fields, settings, compilation)
    zone = ZoneInfo(compilation.site.get("timezone", "UTC"))

    def ris(work: Work) -> None:
        request = _in_zone(make(work), zone)
        try:
            events = work.context.apply(request)
        except MessageError as error:
            raise _where_it_stood(error, work.subject, fields) from error
        found = next((event.accession for event in reversed(events) if event.accession), "") or getattr(request, "accession", "")
        work.accession = found or work.accession

    return ris


def _in_zone(request: Request, zone: ZoneInfo) -> Request:
    """Return the request with its times in the site's time zone, whatever zone the sender named."""
    given: dict[str, str] = {name: getattr(request, name, "") for name in _TIMES}
    changes: dict[str, Any] = {name: local for name, text in given.items() if (local := times.localized(text, zone)) != text}
    return replace(request, **changes) if changes else request


def _where_it_stood(error: MessageError, subject: Subject, fields: Mapping[str, tuple[str, ...]]) -> MessageError:
    """Return the error at the field that gave the value: the RIS names the one where it usually stands."""
    for paths in fields.values():
        if error.path in map(_field, paths):
            found = next((path for path in paths if subject.exists(path)), error.path)
            return MessageError(_field(found), error.why, error.code, reject=error.reject)
    return error


def _field(path: str) -> str:
    return path.partition(".")[0]


def _maker(
    kind: str, fields: Mapping[str, tuple[str, ...]], settings: Mapping[str, Any], compilation: Compilation
) -> Callable[[Work], Request]:
    if kind == "image":
        by, window = tuple(settings["match"]), round(settings["window"] / 60)
        return lambda work: replace(performed.store_instance(work.subject, fields, work.context.spooled), by=by, window=window)
    tables = {}
    for use in TABLES[kind]:
        name = settings["vocabulary"] if use == requests.VOCABULARY[kind] and settings["vocabulary"] else use
        name = settings["procedures"] if use == "procedures" else name
        tables[use] = compilation.table(name, "vocabulary" if name == settings["vocabulary"] else "apply")
        compilation.uses.append((use, name))
    for use, columns in requests.COLUMNS.items():
        for column in columns if tables.get(use) is not None else ():
            compilation.column(tables[use], column)
    found = {use: table for use, table in tables.items() if table is not None}
    if kind == "performed":
        reasons, complete = found.get("discontinuation"), settings["incomplete"] == "refuse"
        return lambda work: performed.perform_step(work.subject, fields, work.context.performed, reasons, complete=complete)
    make = requests.MAKERS[kind]
    return lambda work: make(work.subject, fields, found)


RIS = StepType(SPEC, _compile, ("hl7", "dicom"))
