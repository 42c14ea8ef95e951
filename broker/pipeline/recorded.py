"""The RIS state a case begins with: records written by field, linked to each other.

    state:
      patient: {identifiers: 4711^^^GENHOSP^MR, family: DOE, given: JANE}
      order: {placer_number: P1, status: SC}
      exam: {accession: A00000001, status: completed, modality: CT}
      steps: [{station: CT1, start: 202603021000}]
      report: {status: final, text: Normal.}

What is not written is empty, as after a message that did not say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from broker.pipeline.shape import Mistakes, did_you_mean
from broker.ris.entities import Charge, Composite, Exam, Order, Patient, PatientIdentifier, Report, Step
from broker.ris.events import Event
from broker.ris.records import Records

ROOTS: Mapping[str, type] = {"patient": Patient, "order": Order, "exam": Exam, "report": Report, "charge": Charge}
STEPS = "steps"
IDENTIFIERS = "identifiers"
_LINKS = frozenset({"id", "patient_id", "order_id", "exam_id", "merged_into", "merged_from", "message_id"})  # made here

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Records by their root, with the values of their fields; `steps` are those of the exam."""

    records: Mapping[str, Values]
    steps: tuple[Values, ...] = ()
    identifiers: tuple[Values, ...] = ()

    def write(self, store: Records, name: str = "") -> Event:
        """Write them and return the event of that name about them, as the RIS would tell it."""
        ids: dict[str, int | None] = dict.fromkeys(ROOTS)
        if "patient" in self.records:
            patient = store.add(Patient(**self.records["patient"])).id
            ids["patient"] = patient
            for one in self.identifiers:
                store.add(PatientIdentifier(patient_id=patient, **one))
        if "order" in self.records:
            ids["order"] = store.add(Order(patient_id=ids["patient"] or 0, **self.records["order"])).id
        if "exam" in self.records:
            ids["exam"] = store.add(Exam(order_id=ids["order"], patient_id=ids["patient"], **self.records["exam"])).id
        for step in self.steps:
            store.add(Step(exam_id=ids["exam"] or 0, **step))
        if "report" in self.records:
            ids["report"] = store.add(Report(exam_id=ids["exam"], **{"version": 1, **self.records["report"]})).id
        if "charge" in self.records:
            ids["charge"] = store.add(Charge(exam_id=ids["exam"] or 0, **self.records["charge"])).id
        accession = str(self.records.get("exam", {}).get("accession", ""))
        named = {f"{root}_id": id for root, id in ids.items()}
        return Event(name, accession=accession, **named)  # type: ignore[arg-type]


def read_recorded(value: Any, mistakes: Mistakes) -> Recorded:
    """Return the records of a mapping; what is wrong is added to `mistakes`."""
    records: dict[str, Values] = {}
    identifiers: tuple[Values, ...] = ()
    steps: list[Values] = []
    for root, given in value.items() if isinstance(value, Mapping) else ():
        place = mistakes.at(root)
        if root == STEPS and isinstance(given, list):
            steps = [_read(Step, one, place.at(index)) for index, one in enumerate(given)]
        elif root not in ROOTS:
            place.add(f"there is no record {root}", did_you_mean(str(root), (*ROOTS, STEPS)))
        else:
            if root == "patient" and isinstance(given, Mapping) and IDENTIFIERS in given:
                identifiers = tuple(map(_identifier, _texts(given[IDENTIFIERS])))
                given = {name: one for name, one in given.items() if name != IDENTIFIERS}
            records[root] = _read(ROOTS[root], given, place)
    for root in ("steps", "report", "charge"):
        if (steps if root == STEPS else root in records) and "exam" not in records:
            mistakes.add(f"{root} without the exam they belong to", "add exam: with its accession number", key=(root,))
    return Recorded(records, tuple(steps), identifiers)


def _read(kind: type, given: Any, mistakes: Mistakes) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        mistakes.add("fields and their values are needed here", "such as {status: scheduled}")
        return {}
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.name not in _LINKS]
    values = {}
    for name, value in given.items():
        if name not in known:
            extra = [IDENTIFIERS] if kind is Patient else []
            mistakes.add(f"{kind.__name__.lower()} has no field {name}", did_you_mean(str(name), [*known, *extra]), key=(name,))
            continue
        try:
            values[name] = _converted(hints[name], value)
        except (TypeError, ValueError):
            mistakes.add(f"not a value of {name}", "write a number" if hints[name] is int else "write a text", key=(name,))
    return values


def _converted(hint: Any, value: Any) -> Any:
    if hint is int:
        return int(value)
    if hint == tuple[str, ...]:
        return tuple(_texts(value))
    if isinstance(value, Mapping | list):
        raise TypeError
    text = "" if value is None else str(value)
    return Composite(text) if hint is Composite else text


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else str(value).split("~")


def _identifier(text: str) -> Values:
    """Return a CX: value, assigning authority and type."""
    parts = [*text.split("^"), "", "", "", "", ""]
    return {"value": parts[0], "authority": parts[3].partition("&")[0], "type": parts[4]}
