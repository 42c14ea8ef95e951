"""What differs between two versions of a DICOM header: keyword by keyword, into sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from broker.model import Change

_BULK = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})  # shown by their length


def difference(before: Dataset, after: Dataset) -> list[Change]:
    """Return every change in the order of the tags; what is in the n-th item of a sequence is named `Sequence[n].Keyword`, in the first
    `Sequence.Keyword`, as a route writes it. An element without a keyword is named by its tag."""
    return list(_changes("", before, after))


def changes(values: Mapping[str, str], set_: Mapping[str, str]) -> list[Change]:
    """Return what a route sets (`StoreRequest.changes`) as changes of the header it was read from, by keyword."""
    return [_change(path, values.get(path, ""), text) for path, text in set_.items() if values.get(path, "") != text]


def _changes(prefix: str, before: Dataset, after: Dataset) -> Iterator[Change]:
    for tag in sorted({*before.keys(), *after.keys()}):
        one, other = before.get(tag), after.get(tag)
        element = other if other is not None else one
        if element is None or (one is not None and other is not None and one == other):
            continue
        name = prefix + (element.keyword or f"({tag.group:04X},{tag.element:04X})")
        if element.VR != "SQ":
            yield _change(name, _text(one), _text(other))
            continue
        items = [list(side.value or ()) if side is not None else [] for side in (one, other)]
        for number, (left, right) in enumerate(zip_longest(*items), 1):
            inner = f"{name}." if number == 1 else f"{name}[{number}]."
            yield from _changes(inner, left if left is not None else Dataset(), right if right is not None else Dataset())


def _text(element: DataElement | None) -> str:
    if element is None or element.value is None:
        return ""
    if element.VR in _BULK:
        return f"{len(element.value)} bytes"
    return "\\".join(map(str, element.value)) if isinstance(element.value, MultiValue | list) else str(element.value)


def _change(path: str, one: str, other: str) -> Change:
    return Change(path, one, other, "added" if not one else "changed" if other else "removed")
