"""A DICOM header read by keywords, with the changes a route wants made to it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from broker.pipeline.shape import did_you_mean

PSEUDO = {"kind": "C-STORE, N-CREATE or N-SET", "sender": "the calling AE title", "uid": "the SOP Instance UID of the request"}


@lru_cache(maxsize=2048)
def check_keyword(path: str) -> str:
    """Return what is wrong with a keyword, dotted into the first item of sequences; "" when nothing is."""
    if path in PSEUDO:
        return ""
    *sequences, last = path.split(".")
    for keyword in (*sequences, last):
        if not keyword or tag_for_keyword(keyword) is None:
            near = did_you_mean(keyword, _keywords())
            return f"{keyword} is no DICOM keyword; {near if near.startswith('did') else 'write it like PatientID or StudyInstanceUID'}"
    for keyword in sequences:
        if dictionary_VR(keyword) != "SQ":
            return f"{keyword} is not a sequence"
    return ""


@lru_cache(maxsize=1)
def _keywords() -> tuple[str, ...]:
    from pydicom._dicom_dict import DicomDictionary

    return tuple(entry[4] for entry in DicomDictionary.values() if entry[4]) + tuple(PSEUDO)


def text_of(dataset: Dataset, path: str) -> list[str]:
    """Return the values of a keyword, dotted into the first item of sequences, as text; empty when absent."""
    for keyword in path.split(".")[:-1]:
        items = dataset.get(keyword)
        if not items:
            return []
        dataset = items[0]
    value = dataset.get(path.rpartition(".")[2])
    if value is None or value == "":
        return []
    return [str(v) for v in value] if isinstance(value, MultiValue | list | tuple) else [str(value)]


class Header:
    """The keywords of one DICOM request: scanned from a stored object, or read from the dataset of an MPPS.

    `values` holds text by keyword; what is not there is looked up in `dataset`. Changes are collected, the object stays as it is.
    """

    __slots__ = ("changes", "dataset", "values")

    def __init__(
        self,
        values: Mapping[str, str],
        dataset: Dataset | None = None,
        *,
        kind: str = "C-STORE",
        sender: str = "",
        uid: str = "",
        changes: Mapping[str, str] | None = None,
    ) -> None:
        self.values = {**values, "kind": kind, "sender": sender, "uid": uid}
        self.dataset = dataset
        self.changes = dict(changes or {})

    @property
    def kind(self) -> str:
        """C-STORE, N-CREATE or N-SET."""
        return self.values["kind"]

    def get(self, path: str) -> str:
        """Return the first value as text, "" when the header has none."""
        found = self.all(path)
        return found[0] if found else ""

    def all(self, path: str) -> list[str]:
        """Return every value as text."""
        text = self.changes.get(path, self.values.get(path))
        if text is not None:
            return text.split("\\") if text else []
        return [] if self.dataset is None else text_of(self.dataset, path)

    def exists(self, path: str) -> bool:
        """Return whether the header has a value there."""
        return bool(self.get(path))

    def set(self, path: str, text: str) -> None:
        """Note that the attribute becomes `text`; setting what is there already notes nothing."""
        if "\\".join(self.all(path)) != text:
            self.changes[path] = text

    def remove(self, path: str) -> None:
        """Note that the attribute becomes empty."""
        self.set(path, "")

    def copy(self, source: str, target: str) -> None:
        """Note that `target` takes the values of `source`."""
        self.set(target, "\\".join(self.all(source)))

    def clone(self) -> Header:
        """Return a copy with changes of its own."""
        copy = Header.__new__(Header)
        copy.values, copy.dataset, copy.changes = self.values, self.dataset, dict(self.changes)
        return copy
