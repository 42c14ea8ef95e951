"""`ris`: what the message says becomes a request to the RIS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from broker.pipeline import performed, requests
from broker.pipeline.compilation import Compilation, StepType
from broker.pipeline.context import Step, Work
from broker.pipeline.fields import DICOM_FIELDS, HL7_FIELDS, TABLES
from broker.pipeline.shape import did_you_mean
from broker.ris.events import Request
from broker.spec import Option, Spec

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
        Option("vocabulary", "text", "Table of the sender's order controls or report states.", default="", example="order_control"),
        Option("procedures", "text", "Table of order codes.", default="procedures"),
        Option(
            "fields",
            "mapping",
            "Where this sender keeps a field, when it is not where the standard has it.",
            default=None,
            example={"accession": "OBR-3.1"},
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

    def ris(work: Work) -> None:
        request = make(work)
        events = work.context.apply(request)
        found = next((event.accession for event in reversed(events) if event.accession), "") or getattr(request, "accession", "")
        work.accession = found or work.accession

    return ris


def _maker(
    kind: str, fields: Mapping[str, tuple[str, ...]], settings: Mapping[str, Any], compilation: Compilation
) -> Callable[[Work], Request]:
    if kind == "performed":
        return lambda work: performed.perform_step(work.subject, fields)
    if kind == "image":
        return lambda work: performed.store_instance(work.subject, fields, work.context.spooled)
    tables = {}
    for use in TABLES[kind]:
        name = settings["vocabulary"] if use == requests.VOCABULARY[kind] and settings["vocabulary"] else use
        name = settings["procedures"] if use == "procedures" else name
        tables[use] = compilation.table(name, "vocabulary" if name == settings["vocabulary"] else "apply")
    for use, columns in requests.COLUMNS.items():
        for column in columns if tables.get(use) is not None else ():
            compilation.column(tables[use], column)
    found = {use: table for use, table in tables.items() if table is not None}
    make = requests.MAKERS[kind]
    return lambda work: make(work.subject, fields, found)


RIS = StepType(SPEC, _compile, ("hl7", "dicom"))
