"""Modality Worklist on the wire: identifiers read into a query, attributes put into the datasets that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from broker.ris import worklist
from broker.ris.records import Records

STEP = "ScheduledProcedureStepSequence"

Attributes = Mapping[str, str]  # by keyword, dotted into sequences


def query(identifier: Dataset) -> worklist.WorklistQuery:
    """Return the matching keys of an identifier (PS3.4 table K.6-1)."""
    keys = _texts(identifier)
    items = identifier.get(STEP)
    if items:
        keys.update(_texts(items[0]))
    return worklist.from_keys(keys)


def find(records: Records, wanted: worklist.WorklistQuery) -> list[Attributes]:
    """Return the attributes of every step that matches."""
    return [worklist.attributes(records, entry) for entry in worklist.query(records, wanted)]


def entry(attributes: Attributes, identifier: Dataset) -> Dataset:
    """Return the entry with the attributes that the identifier asks for; what is not known is there, and empty.

    A sequence without an item asks for all of it.
    """
    found = Dataset()
    _fill(found, identifier, attributes, "")
    return found


def _texts(dataset: Dataset) -> dict[str, str]:
    return {element.keyword: "\\".join(_values(element.value)) for element in dataset if element.VR != "SQ" and element.keyword}


def _values(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, MultiValue) else [str(value)]


def _fill(target: Dataset, asked: Dataset, attributes: Attributes, prefix: str) -> None:
    for element in asked:
        keyword = element.keyword
        if not keyword or keyword == "SpecificCharacterSet":
            continue
        if element.VR == "SQ":
            setattr(target, keyword, _sequence(element.value, attributes, f"{prefix}{keyword}."))
        else:
            setattr(target, keyword, attributes.get(prefix + keyword, ""))


def _sequence(asked: Sequence, attributes: Attributes, prefix: str) -> Sequence:
    known = {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}
    if not any(known.values()):
        return Sequence()
    item = Dataset()
    if asked:
        _fill(item, asked[0], attributes, prefix)
    else:
        _fill_all(item, known)
    return Sequence([item])


def _fill_all(target: Dataset, known: Attributes) -> None:
    for name, value in known.items():
        keyword, _, rest = name.partition(".")
        if not rest:
            setattr(target, keyword, value)
        elif keyword not in target and dictionary_VR(tag_for_keyword(keyword) or 0) == "SQ":
            setattr(target, keyword, _sequence(Sequence(), known, f"{keyword}."))
