"""What a modality must know of a patient before it begins: allergies, weight, size, pregnancy, special needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from broker.hl7.message import Message
from broker.pipeline.fields import Fields
from broker.ris.changes import NULL
from broker.ris.names import component

_CONTRAINDICATION = "MC"  # HL7 table 0127; all other types are allergies
_NO_ALLERGY = frozenset({"NKA", "NKDA"})

_WEIGHT = frozenset({"29463-7", "3141-9", "3142-7", "8335-2"})  # LOINC: body weight, measured, stated, estimated
_SIZE = frozenset({"8302-2", "3137-7", "3138-5", "8301-4"})  # LOINC: body height, measured, stated, estimated
_KILOGRAMS: Mapping[str, float] = {"kg": 1, "g": 0.001, "lb": 0.45359237, "lbs": 0.45359237, "[lb_av]": 0.45359237}
_METRES: Mapping[str, float] = {"m": 1, "cm": 0.01, "mm": 0.001, "in": 0.0254, "[in_i]": 0.0254, "[in_us]": 0.0254}

_PREGNANT = "B6"  # HL7 table 0009
_NEEDS: Mapping[str, str] = {  # HL7 table 0009
    "A1": "Ambulates with assistive device",
    "A2": "Wheelchair or stretcher bound",
    "A3": "Comatose",
    "A4": "Disoriented",
    "A5": "Vision impaired",
    "A6": "Hearing impaired",
    "A7": "Speech impaired",
    "A8": "Non-English speaking",
    "B1": "Oxygen therapy",
    "B2": "Special equipment",
    "B3": "Amputee",
    "B4": "Mastectomy",
    "B5": "Paraplegic",
}
_NO_NEEDS = frozenset({"A0", "A9", _PREGNANT})


def allergies(message: Message, paths: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what the patient reacts to, and what else speaks against something; each by its text, else its code.

    Without an AL1 nothing is said; one that says there are none clears what is known.
    """
    told: list[str] = []
    alerts: list[str] = []
    for path in paths:
        for number, place in _each(message, path):
            composite = message.raw(place)
            if not composite or composite == NULL or component(composite, 1) in _NO_ALLERGY:
                continue
            kind = message.get(f"AL1[{number}]-2.1") if number else ""
            (alerts if kind == _CONTRAINDICATION else told).append(coded(composite))
        if told or alerts:
            break
    said = any(message.raw(place) for path in paths for _, place in _each(message, path))
    return tuple(told) or ((NULL,) if said else ()), tuple(alerts) or ((NULL,) if said else ())


def of_order(message: Message, fields: Fields) -> dict[str, str]:
    """Return what an order says of its patient's condition; "" where it says nothing."""
    return {
        "weight": _measured(message, fields["weight"], _WEIGHT, _KILOGRAMS),
        "size": _measured(message, fields["size"], _SIZE, _METRES),
        "pregnancy": _pregnancy(message, fields["pregnancy"]),
        "special_needs": _special_needs(message, fields["special_needs"]),
        "patient_state": _text(message, fields["patient_state"]),
        "confidentiality": _text(message, fields["confidentiality"]),
    }


def coded(composite: str) -> str:
    """Return the text of the first repetition of a coded element, its code where it has none."""
    return component(composite, 2) or component(composite, 1)


def _text(message: Message, paths: tuple[str, ...]) -> str:
    """Return a coded element as text; a path may also name the part that is meant."""
    found = next((text for path in paths if (text := message.raw(path))), "")
    return NULL if found == NULL else coded(found)


def _each(message: Message, path: str) -> Iterator[tuple[int, str]]:
    """Give the places that a path over all segments of a name stands for, with the numbers of the segments; 0 for a single place."""
    segment, repeats, rest = path.partition("[*]")
    if not repeats or len(segment) != 3:
        yield 0, path
        return
    for number in message.segments(segment):
        yield number, f"{segment}[{number}]{rest}"


def _measured(message: Message, paths: tuple[str, ...], codes: frozenset[str], units: Mapping[str, float]) -> str:
    """Return a measure in the unit that DICOM wants, "" where the unit is not said: a guess could be off by a factor of two."""
    for path in paths:
        for number, place in _each(message, path):
            value = message.get(place)
            if not number:
                return value
            if message.get(f"OBX[{number}]-3.1") in codes and (
                text := _scaled(value, units.get(message.get(f"OBX[{number}]-6.1").lower()))
            ):
                return text
    return ""


def _scaled(value: str, factor: float | None) -> str:
    try:
        number = float(value) * (factor or 0)
    except ValueError:
        return ""
    return f"{number:.5g}" if 0 < number < 1000 else ""


def _pregnancy(message: Message, paths: tuple[str, ...]) -> str:
    """Return "3" for somebody known to be pregnant; of anybody else the standard's field says nothing."""
    codes = [code for path in paths for code in message.all(path)]
    return NULL if codes == [NULL] else "3" if _PREGNANT in codes else ""


def _special_needs(message: Message, paths: tuple[str, ...]) -> str:
    for path in paths:
        if composites := [one for one in message.raw(path).split("~") if one]:
            if composites == [NULL]:
                return NULL
            told = (_NEEDS.get(component(one, 1)) or coded(one) for one in composites if component(one, 1) not in _NO_NEEDS)
            return ", ".join(told)
    return ""
