"""Query/Retrieve identifiers (PS3.4 annex C): checked against their level, divided among archives, and their answers made one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from broker.errors import MessageError

PATIENT, STUDY, SERIES, IMAGE = LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")
UNIQUE: Mapping[str, str] = {
    PATIENT: "PatientID",
    STUDY: "StudyInstanceUID",
    SERIES: "SeriesInstanceUID",
    IMAGE: "SOPInstanceUID",
}
_AVAILABILITY = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")  # the best first
_UNITED = ("ModalitiesInStudy", "SOPClassesInStudy")
_COUNTED = (
    "NumberOfPatientRelatedStudies",
    "NumberOfPatientRelatedSeries",
    "NumberOfPatientRelatedInstances",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances",
)
MOST_UIDS = 1000  # of one retrieval


@dataclass(frozen=True, slots=True)
class Model:
    """One information model: its levels and the SOP classes of its three services."""

    levels: tuple[str, ...]
    find: str
    move: str
    get: str


PATIENT_ROOT = Model(LEVELS, *(f"1.2.840.10008.5.1.4.1.2.1.{n}" for n in (1, 2, 3)))
STUDY_ROOT = Model(LEVELS[1:], *(f"1.2.840.10008.5.1.4.1.2.2.{n}" for n in (1, 2, 3)))
MODELS: Mapping[str, Model] = {
    uid: model for model in (PATIENT_ROOT, STUDY_ROOT) for uid in (model.find, model.move, model.get)
}  # by SOP class


@dataclass(frozen=True, slots=True)
class Query:
    """A C-FIND identifier whose level and unique keys are in order."""

    model: Model
    level: str
    identifier: Dataset


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What a C-MOVE or C-GET asks for: the values of the unique keys by level, one above its own level, one or more at it."""

    model: Model
    level: str
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The values at its own level."""
        return self.keys[self.level]

    def at(self, level: str, values: Sequence[str], **above: str) -> Retrieval:
        """Return the retrieval of these values at a level at or below this one; `above` are further keys between, by level."""
        higher = self.model.levels[: self.model.levels.index(level)]
        keys = {one: self.keys[one] for one in higher if one in self.keys}
        keys |= {one: (value,) for one, value in above.items()}
        return Retrieval(self.model, level, {**keys, level: tuple(values)})

    def identifier(self) -> Dataset:
        """Return it as the dataset of a C-MOVE or C-GET."""
        dataset = Dataset()
        dataset.QueryRetrieveLevel = self.level
        for level, values in self.keys.items():
            setattr(dataset, UNIQUE[level], values[0] if len(values) == 1 else list(values))
        return dataset


def read_query(model: Model, identifier: Dataset) -> Query:
    """Return a C-FIND identifier that keeps to the hierarchy (PS3.4 C.4.1.2.1); raises MessageError with the key at fault."""
    level = _level(model, identifier)
    _above(model, level, identifier)
    for below in model.levels[model.levels.index(level) + 1 :]:
        if values_of(identifier, UNIQUE[below]):
            raise MessageError(UNIQUE[below], f"a unique key below the level {level}", 102)
    return Query(model, level, identifier)


def read_retrieval(model: Model, identifier: Dataset) -> Retrieval:
    """Return what a C-MOVE or C-GET identifier asks for (PS3.4 C.4.2.2.1); raises MessageError with the key at fault."""
    level = _level(model, identifier)
    keys = _above(model, level, identifier)
    wanted = values_of(identifier, UNIQUE[level])
    if not wanted or any(_is_wild(value) for value in wanted) or (level == PATIENT and len(wanted) > 1):
        raise MessageError(UNIQUE[level], "the unique key of the level needs a value, or a list of UIDs", 101)
    if len(wanted) > MOST_UIDS:
        raise MessageError(UNIQUE[level], f"more than {MOST_UIDS} UIDs", 102)
    return Retrieval(model, level, {**keys, level: tuple(dict.fromkeys(wanted))})


def _level(model: Model, identifier: Dataset) -> str:
    level = str(identifier.get("QueryRetrieveLevel") or "").strip()
    if level not in model.levels:
        raise MessageError("QueryRetrieveLevel", f"write one of {', '.join(model.levels)}", 101 if not level else 103)
    return level


def _above(model: Model, level: str, identifier: Dataset) -> dict[str, tuple[str, ...]]:
    keys: dict[str, tuple[str, ...]] = {}
    for above in model.levels[: model.levels.index(level)]:
        values = values_of(identifier, UNIQUE[above])
        if len(values) != 1 or _is_wild(values[0]):
            raise MessageError(UNIQUE[above], f"the level {level} needs exactly one value of it", 101)
        keys[above] = (values[0],)
    return keys


def _is_wild(value: str) -> bool:
    return "*" in value or "?" in value


def values_of(dataset: Dataset, keyword: str) -> list[str]:
    """Return the values of an element as texts, without the empty ones."""
    value = dataset.get(keyword)
    values = value if isinstance(value, MultiValue | list | tuple) else [] if value is None else [value]
    return [text for one in values if (text := str(one).strip())]


def without(dataset: Dataset, *keywords: str) -> Dataset:
    """Return a copy of the dataset's top level without some elements."""
    copied = Dataset()
    copied.update({tag: dataset[tag] for tag in dataset.keys()})  # noqa: SIM118 - a Dataset iterates over its elements
    for keyword in keywords:
        copied.pop(keyword, None)
    return copied


class Merging:
    """Makes one entry of what several sources answer about the same patient, study, series or image.

    An entry is ready when no source that still answers can add to it: at once where there is one source only.
    """

    def __init__(self, level: str, sources: int) -> None:
        self._level = level
        self._open = set(range(sources))
        self._parts: dict[tuple[str, ...], dict[int, Dataset]] = {}
        self._done: set[tuple[str, ...]] = set()
        self._nameless = 0

    @property
    def count(self) -> int:
        """How many entities there are so far."""
        return len(self._parts) + len(self._done)

    def take(self, source: int, entry: Dataset) -> list[Dataset]:
        """Take an entry of a source, and return what is ready."""
        key = self._key(entry)
        if key in self._done:
            return []
        parts = self._parts.setdefault(key, {})
        parts.setdefault(source, entry)
        return [self._finish(key)] if self._open <= parts.keys() else []

    def end(self, source: int) -> list[Dataset]:
        """Expect nothing more of a source, and return what is ready."""
        self._open.discard(source)
        return [self._finish(key) for key in list(self._parts) if self._open <= self._parts[key].keys()]

    def _key(self, entry: Dataset) -> tuple[str, ...]:
        values = values_of(entry, UNIQUE[self._level])
        if not values:
            self._nameless += 1
            return ("", str(self._nameless))
        return (values[0], *values_of(entry, "IssuerOfPatientID")) if self._level == PATIENT else (values[0],)

    def _finish(self, key: tuple[str, ...]) -> Dataset:
        self._done.add(key)
        parts = self._parts.pop(key)
        return combine([parts[source] for source in sorted(parts)])


def combine(parts: Sequence[Dataset]) -> Dataset:
    """Return one entry of those of several sources: the first that has a value counts.

    Modalities and SOP classes are united. Of counts the highest stands, as what two archives hold is mostly the same. The best
    Instance Availability counts.
    """
    if len(parts) == 1:
        return parts[0]
    whole = without(parts[0])
    for part in parts[1:]:
        for tag in part.keys():  # noqa: SIM118
            if tag not in whole or whole[tag].is_empty:
                whole[tag] = part[tag]
    for keyword in _UNITED:
        if values := list(dict.fromkeys(value for part in parts for value in values_of(part, keyword))):
            setattr(whole, keyword, values if len(values) > 1 else values[0])
    for keyword in _COUNTED:
        if counts := [int(value) for part in parts for value in values_of(part, keyword) if value.isdigit()]:
            setattr(whole, keyword, max(counts))
    known = {value for part in parts for value in values_of(part, "InstanceAvailability")}
    if best := next((one for one in _AVAILABILITY if one in known), ""):
        whole.InstanceAvailability = best
    return whole


def divide(holdings: Sequence[Mapping[str, int]]) -> list[list[str]]:
    """Return which source each UID is to come from, given how many instances of it each source has: the fullest, else the first."""
    shares: list[list[str]] = [[] for _ in holdings]
    for uid in dict.fromkeys(uid for holding in holdings for uid in holding):
        counts = [holding.get(uid, -1) for holding in holdings]
        shares[counts.index(max(counts))].append(uid)
    return shares
