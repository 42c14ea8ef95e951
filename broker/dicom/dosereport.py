"""Dose of X-rays: read from a Radiation Dose SR (PS3.16 TID 10001 projection, TID 10011 CT) and from the attributes of an MPPS.

What is stated in a unit that the quantity cannot have is refused: a wrong dose is worse than none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from pydicom.dataset import Dataset

from broker.dicom.dataset import read_header
from broker.errors import MessageError

RDSR = "1.2.840.10008.5.1.4.1.1.88.67"  # X-Ray Radiation Dose SR
ENHANCED = "1.2.840.10008.5.1.4.1.1.88.76"  # Enhanced X-Ray Radiation Dose SR, whose templates (TID 10040) are others
SOP_CLASSES = frozenset((RDSR, ENHANCED))

MOST_BYTES = 1 << 25  # of a report
MOST_EVENTS = 5000
_DEEPEST = 12  # levels of the content tree

# UCUM codes of each unit that a quantity may come in -> its factor to the unit kept
_DOSE = {"mGy": "1", "Gy": "1000", "dGy": "100", "cGy": "10", "uGy": "0.001"}
_LENGTH = {"mGy.cm": "1", "Gy.cm": "1000", "cGy.cm": "10"}
_AREA = {
    "Gy.m2": "1",
    "mGy.m2": "0.001",
    "uGy.m2": "0.000001",
    "Gy.cm2": "0.0001",
    "dGy.cm2": "0.00001",
    "cGy.cm2": "0.000001",
    "mGy.cm2": "0.0000001",
    "uGy.cm2": "0.0000000001",
}
_UNITS: Mapping[str, Mapping[str, str]] = {
    "ctdivol": _DOSE,  # kept in mGy
    "entrance": _DOSE,
    "glandular": _DOSE,
    "dlp": _LENGTH,  # mGy.cm
    "dap": _AREA,  # Gy.m2
}

# concept names (DCM) of the content items
_REPORT = "113701"
_SCOPE = "113705"
_ACCUMULATED = {"113811": "CT", "113702": ""}  # CT Accumulated Dose Data, Accumulated X-Ray Dose Data
_EVENTS = {"113819": "CT", "113706": ""}  # CT Acquisition, Irradiation Event X-Ray Data
_OF_TOTAL = {"113813": "dlp", "113722": "dap", "113725": "entrance", "111637": "glandular"}
_OF_EVENT = {"113830": "ctdivol", "113838": "dlp", "122130": "dap", "113738": "entrance", "111631": "glandular"}
_COUNT, _EVENT_UID, _STARTED, _PHANTOM, _PROCEDURE = "113812", "113769", "111526", "113835", "121058"
_MAMMOGRAPHY = frozenset(("P5-40010", "71651007"))  # SRT, SCT
_ADDED = frozenset({"dap", "dlp"})  # of several planes of one report; of anything else the largest counts


@dataclass(frozen=True, slots=True)
class Reading:
    """What is said of one irradiation event, or in total; None is not said."""

    event_uid: str = ""
    scope: str = ""  # of a total: the UID it accumulates over
    modality: str = ""
    at: str = ""  # YYYYMMDDHHMMSS
    ctdivol: float | None = None  # mGy
    phantom: str = ""  # code of the CTDI phantom
    dlp: float | None = None  # mGy.cm
    dap: float | None = None  # Gy.m2
    entrance: float | None = None  # mGy
    glandular: float | None = None  # mGy
    exposures: int | None = None


def read_report(path: str | os.PathLike[str]) -> tuple[Reading, ...]:
    """Return what the file of a dose report says: its total, then its events; raises MessageError."""
    if os.path.getsize(path) > MOST_BYTES:
        raise MessageError("ContentSequence", f"a dose report of more than {MOST_BYTES >> 20} MB is not read", 102)
    header, _ = read_header(path)
    try:
        return of_report(header)
    except MessageError:
        raise
    except Exception as error:  # whatever a damaged element raises in the library
        raise MessageError("ContentSequence", "the dose report cannot be read", 102) from error


def of_report(report: Dataset) -> tuple[Reading, ...]:
    """Return what a dose report says: its total, then its events; raises MessageError when it is none, or at a unit that cannot be."""
    if str(report.get("SOPClassUID", "")) == ENHANCED:
        raise MessageError("SOPClassUID", "an Enhanced X-Ray Radiation Dose SR is not read", 102)
    if _concept(report) != _REPORT:
        raise MessageError("ConceptNameCodeSequence", "it is no X-ray radiation dose report", 102)
    top = list(report.get("ContentSequence") or ())
    procedure = next((_code(item) for item in top if _concept(item) == _PROCEDURE), "")
    modality = "MG" if procedure in _MAMMOGRAPHY else ""
    total = Reading(scope=_scope(top), modality=modality)
    events: list[Reading] = []
    for item in top:
        concept = _concept(item)
        if concept in _ACCUMULATED:
            total = _added(total, _accumulated(item, _ACCUMULATED[concept] or modality))
        elif concept in _EVENTS:
            events.append(_event(item, _EVENTS[concept] or modality))
        if len(events) > MOST_EVENTS:
            raise MessageError("ContentSequence", f"more than {MOST_EVENTS} irradiation events", 102)
    if total.exposures is None and events:
        total = replace(total, exposures=len(events))
    return (total, *(event for event in events if event.event_uid))


def of_performed(attributes: Dataset) -> Reading | None:
    """Return what an MPPS says (PS3.3 C.4.16), None when it says nothing; raises MessageError for a value that is no number.

    The standard fixes the units: dGy.cm2 for the area dose product, dGy for Entrance Dose, mGy for Entrance Dose in mGy and CTDIvol.
    """
    exposures = list(attributes.get("ExposureDoseSequence") or ())
    single = [_plain(item, "CTDIvol", "ctdivol", "mGy") for item in exposures]
    entrance = _plain(attributes, "EntranceDoseInmGy", "entrance", "mGy")
    found = Reading(
        modality=str(attributes.get("Modality") or ""),
        ctdivol=max((value for value in single if value is not None), default=None),
        phantom=next((code for item in exposures if (code := _first_code(item, "CTDIPhantomTypeCodeSequence"))), ""),
        dap=_plain(attributes, "ImageAndFluoroscopyAreaDoseProduct", "dap", "dGy.cm2"),
        entrance=_plain(attributes, "EntranceDose", "entrance", "dGy") if entrance is None else entrance,
        exposures=_count(attributes, "TotalNumberOfExposures") or len(exposures) or None,
    )
    return None if found == Reading(modality=found.modality) else found


def _accumulated(item: Dataset, modality: str) -> Reading:
    said: dict[str, Any] = {"modality": modality}
    for one in _within(item):
        name = _OF_TOTAL.get(_concept(one))
        value = _number(one, name) if name else None
        if name and value is not None:
            said[name] = _together(name, said.get(name), value)
        if _concept(one) == _COUNT:
            said["exposures"] = int(_decimal(one) or 0)
    return Reading(**said)


def _event(item: Dataset, modality: str) -> Reading:
    said: dict[str, Any] = {"modality": modality, "exposures": 1}
    for one in _within(item):
        concept = _concept(one)
        if name := _OF_EVENT.get(concept):
            if name not in said and (value := _number(one, name)) is not None:
                said[name] = value
        elif concept == _EVENT_UID:
            said.setdefault("event_uid", str(one.get("UID") or ""))
        elif concept == _STARTED:
            said.setdefault("at", str(one.get("DateTime") or "")[:14])
        elif concept == _PHANTOM:
            said.setdefault("phantom", _code(one))
    return Reading(**said)


def _added(total: Reading, other: Reading) -> Reading:
    """Return the total with what another plane or breast of the same report adds."""
    figures: dict[str, Any] = {name: _together(name, getattr(total, name), getattr(other, name)) for name in _UNITS}
    counts = [count for count in (total.exposures, other.exposures) if count is not None]
    return replace(total, modality=total.modality or other.modality, exposures=sum(counts) if counts else None, **figures)


def _together(name: str, one: float | None, other: float | None) -> float | None:
    values = [value for value in (one, other) if value is not None]
    if not values:
        return None
    return sum(values) if name in _ADDED else max(values)


def _scope(top: list[Dataset]) -> str:
    item = next((one for one in top if _concept(one) == _SCOPE), None)
    inner = (item.get("ContentSequence") or ()) if item is not None else ()
    return next((str(one.UID) for one in inner if one.get("UID")), "")


def _within(item: Dataset, depth: int = 0) -> Iterator[Dataset]:
    """Yield the content items below one, from above."""
    if depth > _DEEPEST:
        raise MessageError("ContentSequence", "content items are nested too deep", 102)
    for one in item.get("ContentSequence") or ():
        yield one
        yield from _within(one, depth + 1)


def _concept(item: Dataset) -> str:
    return _first_code(item, "ConceptNameCodeSequence")


def _code(item: Dataset) -> str:
    return _first_code(item, "ConceptCodeSequence")


def _first_code(item: Dataset, sequence: str) -> str:
    items = item.get(sequence)
    return str(items[0].get("CodeValue") or items[0].get("LongCodeValue") or "") if items else ""


def _number(item: Dataset, name: str) -> float | None:
    """Return a numeric content item in the unit kept; None when it is empty, as with a Numeric Value Qualifier."""
    value = _decimal(item)
    if value is None:
        return None
    unit = _first_code(item.MeasuredValueSequence[0], "MeasurementUnitsCodeSequence")
    factor = _UNITS[name].get(unit)
    if factor is None:
        raise MessageError("ContentSequence", f"{name} ({_concept(item)}): its unit is none of {', '.join(_UNITS[name])}", 102)
    return float(value * Decimal(factor))


def _decimal(item: Dataset) -> Decimal | None:
    measured = item.get("MeasuredValueSequence")
    text = measured[0].get("NumericValue") if measured else None
    if text is None or text == "":
        return None
    return _checked(text, f"ContentSequence ({_concept(item)})")


def _checked(text: object, path: str) -> Decimal:
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise MessageError(path, "the dose is no number", 102)
    return value


def _plain(attributes: Dataset, keyword: str, name: str, unit: str) -> float | None:
    value = attributes.get(keyword)
    if value is None or value == "":
        return None
    return float(_checked(value, keyword) * Decimal(_UNITS[name][unit]))


def _count(attributes: Dataset, keyword: str) -> int | None:
    value = attributes.get(keyword)
    return None if value is None or value == "" else int(_checked(value, keyword))
