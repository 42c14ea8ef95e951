"""A DICOM header read by keywords, with the changes a route wants made to it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from broker.dicom.coerce import text_at
from broker.dicom.dosereport import Reading
from broker.dicom.path import Unknown, is_plain, is_scanned, parse
from broker.dicom.standard import fault
from broker.errors import MessageError
from broker.pipeline.shape import did_you_mean

PSEUDO = {"kind": "C-STORE, N-CREATE or N-SET", "sender": "the calling AE title", "uid": "the SOP Instance UID of the request"}
IDENTITY = frozenset(("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"))
_PIXELS = 0x7FE00000


@lru_cache(maxsize=2048)
def check_keyword(path: str) -> str:
    """Return what is wrong with a path as something to read, "" when nothing is."""
    if path in PSEUDO:
        return ""
    try:
        if parse(path)[-1].number:
            return f"{path} names an item; name an attribute in it"
    except ValueError:
        return check_written(path)
    return ""


@lru_cache(maxsize=2048)
def check_written(path: str, *, removal: bool = False) -> str:
    """Return what is wrong with a path as something to write or to remove, "" when nothing is."""
    if path in PSEUDO:
        return f"{path} is not an attribute, it cannot be written"
    try:
        last = parse(path)[-1]
    except Unknown as error:
        near = did_you_mean(error.keyword, _keywords())
        return f"{error}; {near if near.startswith('did') else 'write it like PatientID or StudyInstanceUID'}"
    except ValueError as error:
        return str(error)
    if not last.creator and (last.tag < 0x00080000 or last.tag >= _PIXELS):
        return f"{path} is no part of the header, it cannot be changed"
    if removal and path in IDENTITY:
        return f"an object without {path} is none"
    if last.number and not removal:
        return f"{path} names an item; name an attribute in it"
    return ""


@lru_cache(maxsize=1)
def _keywords() -> tuple[str, ...]:
    from pydicom._dicom_dict import DicomDictionary

    return tuple(entry[4] for entry in DicomDictionary.values() if entry[4]) + tuple(PSEUDO)


def text_of(dataset: Dataset, path: str) -> list[str]:
    """Return the values that a path leads to, as text; empty when absent."""
    if not is_plain(path) and path not in PSEUDO:
        text = text_at(dataset, path)
        return text.split("\\") if text else []
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

    __slots__ = ("_gone", "changes", "dataset", "dose_fault", "doses", "raw", "values")

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
        self._gone: frozenset[str] = frozenset()
        self.raw = b""  # the attributes of an MPPS as they were sent, explicit VR little endian
        self.doses: tuple[Reading, ...] = ()  # of a dose report
        self.dose_fault = ""  # why the dose report is not taken

    @property
    def removals(self) -> tuple[str, ...]:
        """Of the changes, the paths of what goes away instead of being emptied."""
        return tuple(path for path in self.changes if path in self._gone)

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
        """Note that the attribute becomes `text`; setting what is there already notes nothing.

        Raises MessageError when the attribute's VR cannot hold it (PS3.5 table 6.2-1).
        """
        level = parse(path)[-1]
        if text and (wrong := fault(level.vr, text)):
            raise MessageError(path, f"{wrong}; its tag is ({level.tag >> 16:04X},{level.tag & 0xFFFF:04X})", 104)
        if path in self._gone or not is_scanned(path) or "\\".join(self.all(path)) != text:
            self.changes[path] = text
            self._gone -= {path}

    def remove(self, path: str) -> None:
        """Note that the attribute, or the item of a sequence, goes away; what is known to be absent notes nothing."""
        if self.dataset is not None or not is_scanned(path) or path in self.values or path in self.changes:
            self.changes[path] = ""
            self._gone |= {path}

    def keep(self, path: str) -> None:
        """Forget what was noted of the attribute, and of all in it."""
        for changed in [one for one in self.changes if one == path or one.startswith((f"{path}.", f"{path}["))]:
            del self.changes[changed]
            self._gone -= {changed}

    def copy(self, source: str, target: str) -> None:
        """Note that `target` takes the values of `source`."""
        self.set(target, "\\".join(self.all(source)))

    def move(self, source: str, target: str) -> None:
        """Note that `target` takes the values of `source`, which goes away."""
        self.copy(source, target)
        self.remove(source)

    def clone(self) -> Header:
        """Return a copy with changes of its own."""
        copy = Header.__new__(Header)
        copy.values, copy.dataset, copy.changes, copy._gone = self.values, self.dataset, dict(self.changes), self._gone
        copy.raw, copy.doses, copy.dose_fault = self.raw, self.doses, self.dose_fault
        return copy
