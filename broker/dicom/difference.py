"""What differs between two versions of a DICOM header: keyword by keyword, into sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from broker.dicom.dataset import name_of, value_of
from broker.model import Change


def difference(before: Dataset, after: Dataset) -> list[Change]:
    """Return every change in the order of the tags.

    What is in the n-th item of a sequence is named `Sequence[n].Keyword`, in the first `Sequence.Keyword`, as a route writes it; an
    element without a keyword is named by its tag.
    """
    return list(_changes("", before, after))


def changes(values: Mapping[str, str], set_: Mapping[str, str]) -> list[Change]:
    """Return what a route sets (`StoreRequest.changes`) as changes of the header it was read from, by keyword."""
    return [Change.between(path, values.get(path, ""), text) for path, text in set_.items() if values.get(path, "") != text]


def _changes(prefix: str, before: Dataset, after: Dataset) -> Iterator[Change]:
    for tag in sorted({*before.keys(), *after.keys()}):
        one, other = before.get(tag), after.get(tag)
        element = other if other is not None else one
        if element is None or (one is not None and other is not None and one == other):
            continue
        name = prefix + name_of(element)
        if element.VR != "SQ":
            yield Change.between(name, _text(one), _text(other))
            continue
        items = [list(side.value or ()) if side is not None else [] for side in (one, other)]
        for number, (left, right) in enumerate(zip_longest(*items), 1):
            inner = f"{name}." if number == 1 else f"{name}[{number}]."
            yield from _changes(inner, left if left is not None else Dataset(), right if right is not None else Dataset())


def _text(element: DataElement | None) -> str:
    return "" if element is None else value_of(element)
