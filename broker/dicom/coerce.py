"""Attributes set on the way out, with what was there before kept in Original Attributes Sequence (0400,0561)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy

from pydicom.datadict import private_dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from broker.dicom.charset import charset_of, fits, to_unicode
from broker.dicom.path import Level, parse
from broker.dicom.reissue import rename_references
from broker.errors import MessageError
from broker.model import StoreRequest

_INTEGERS = frozenset(("US", "SS", "UL", "SL", "UV", "SV"))
_FLOATS = frozenset(("FL", "FD"))


def prepared(header: Dataset, request: StoreRequest, *, system: str, now: str) -> Dataset:
    """Return the header as a delivery sends it; of a corrected copy also with its references to others of its study.

    Raises MessageError as `coerce` does.
    """
    before = str(header.get("StudyInstanceUID") or "")
    said = {"reason": request.reason, "system": system, "now": now, "source": request.source}
    header = coerce(header, request.changes, removals=request.removals, **said)
    if request.reissue:
        kept = rename_references(header, request.reissue, before, request.changes.get("StudyInstanceUID", before))
        originals = header.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
        for tag, element in kept.items():
            if tag not in originals:
                originals[tag] = element
    return header


def coerce(
    header: Dataset, changes: Mapping[str, str], *, reason: str, system: str, now: str, removals: Collection[str] = (), source: str = ""
) -> Dataset:
    """Set the attributes in the header and return it; originals go to a new item of Original Attributes Sequence.

    changes: path (`broker.dicom.path`) -> value, "" empties. removals: paths that go away altogether, instead of being emptied. reason:
    Reason for the Attribute Modification (0400,0565), COERCE or CORRECT. system: Modifying System. now: DICOM date time. source: who
    provided the object as it was, Source of Previous Values. When the new
    text does not fit the header's Specific Character Set, the whole header becomes ISO_IR 192. Raises MessageError for a path or value
    that cannot be set; then the header is of no more use.
    """
    try:
        return _coerce(header, changes, frozenset(removals), reason, system, now, source)
    except MessageError:
        raise
    except Exception as error:  # whatever a damaged element raises in the library
        raise MessageError("", "the header cannot be changed", 102) from error


def _coerce(
    header: Dataset, changes: Mapping[str, str], removals: Collection[str], reason: str, system: str, now: str, source: str
) -> Dataset:
    if not all(fits(value, charset_of(header)) for value in (*changes.values(), system, source)):
        to_unicode(header)  # before any element is looked at, for its bytes are checked
    wanted = _wanted(header, changes, removals)
    if not wanted:
        return header
    originals = _originals(header, [levels[0] for _, levels, _ in wanted])
    for path, levels, value in wanted:
        if value is None:
            _remove(header, levels)
        else:
            _set(header, levels, value, path)
    note = Dataset()
    note.ModifiedAttributesSequence = [originals]
    note.AttributeModificationDateTime = now
    note.ModifyingSystem = system
    note.SourceOfPreviousValues = source
    note.ReasonForTheAttributeModification = reason
    earlier = list(header.get("OriginalAttributesSequence") or [])
    header.OriginalAttributesSequence = [*earlier, note]
    return header


def text_at(dataset: Dataset, path: str) -> str | None:
    """Return the value that a path leads to, several separated by backslashes; None when it is absent. Raises MessageError for no path."""
    return _text(dataset, _levels(path))


def put_at(dataset: Dataset, path: str, text: str) -> None:
    """Set the attribute that a path leads to; raises MessageError when it cannot be set."""
    _set(dataset, _levels(path), text, path)


Levels = tuple[Level, ...]


def _wanted(header: Dataset, changes: Mapping[str, str], removals: Collection[str]) -> list[tuple[str, Levels, str | None]]:
    """Return what is not yet as it shall be, with None for the value of what goes: at the end, and of items the last one first."""
    wanted: list[tuple[str, Levels, str | None]] = []
    for path, value in changes.items():
        levels, gone = _levels(path), path in removals
        now = _text(header, levels)
        if now is not None if gone else now != value:
            wanted.append((path, levels, None if gone else value))
    return sorted(wanted, key=lambda one: (one[2] is None, -one[1][-1].number))


def _levels(path: str) -> Levels:
    try:
        return parse(path)
    except ValueError:
        raise MessageError(path, "not a DICOM keyword", 103) from None


def _tag(dataset: Dataset, level: Level) -> BaseTag | None:
    """Return the tag of an attribute in this dataset; None for a private one whose creator has no block here."""
    try:
        return _block(dataset, level, create=False) if level.creator else Tag(level.tag)
    except KeyError:
        return None


def _made(dataset: Dataset, level: Level) -> BaseTag:
    """Return the tag of an attribute in this dataset, where the creator of a private one gets a block if it has none."""
    return _block(dataset, level, create=True) if level.creator else Tag(level.tag)


def _block(dataset: Dataset, level: Level, *, create: bool) -> BaseTag:
    return dataset.private_block(level.tag >> 16, level.creator, create=create).get_tag(level.tag & 0xFF)


def _items(dataset: Dataset, level: Level) -> list[Dataset]:
    tag = _tag(dataset, level)
    return list(dataset[tag].value or []) if tag is not None and tag in dataset and dataset[tag].VR == "SQ" else []


def _text(header: Dataset, levels: Levels) -> str | None:
    """Return the value as a change would spell it; None when the attribute is absent."""
    here = header
    for level in levels[:-1]:
        items = _items(here, level)
        if len(items) < max(level.number, 1):
            return None
        here = items[max(level.number, 1) - 1]
    last = levels[-1]
    tag = _tag(here, last)
    if tag is None or tag not in here:
        return None
    element = here[tag]
    if element.VR == "SQ":
        return None if len(element.value or []) < last.number else "items" if element.value else ""
    if element.is_empty:
        return ""
    return "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value)


def _originals(header: Dataset, outermost: Iterable[Level]) -> Dataset:
    """Return the top-level attributes that are about to change, as they are; an absent one is kept as empty."""
    originals = Dataset()
    for level in dict.fromkeys(level._replace(number=0) for level in outermost):
        tag, kept = _tag(header, level), _made(originals, level)
        there = tag is not None and tag in header
        element = deepcopy(header[tag]) if tag is not None and there else _element(kept, level.vr or "LO", "")
        originals[kept] = DataElement(kept, element.VR, element.value)  # a private block may be another one there
    return originals


def _set(dataset: Dataset, levels: Levels, value: str, path: str) -> None:
    level, inner = levels[0], levels[1:]
    tag = _made(dataset, level)
    if not inner:
        dataset[tag] = _element(tag, level.vr or _private_vr(dataset, tag, level), value)
        return
    items, at = _items(dataset, level), max(level.number, 1) - 1
    if at > len(items):
        raise MessageError(path, f"there are {len(items)} items", 102)
    if at == len(items):
        items.append(Dataset())
    _set(items[at], inner, value, path)
    dataset[tag] = DataElement(tag, "SQ", Sequence(items))


def _private_vr(dataset: Dataset, tag: BaseTag, level: Level) -> str:
    """Return the VR of a private attribute: the one it has here, the one the library knows of that creator, or LO."""
    if tag in dataset and dataset[tag].VR != "UN":
        return str(dataset[tag].VR)
    try:
        return str(private_dictionary_VR(tag, level.creator))
    except KeyError:
        return "LO"


def _remove(dataset: Dataset, levels: Levels) -> None:
    level, inner = levels[0], levels[1:]
    tag = _tag(dataset, level)
    if tag is None or tag not in dataset:
        return
    items, at = _items(dataset, level), max(level.number, 1) - 1
    if inner:
        _remove(items[at], inner)
    elif level.number:
        del items[at]
    else:
        del dataset[tag]
        return
    dataset[tag] = DataElement(tag, "SQ", Sequence(items))


def _element(tag: int, vr: str, value: str) -> DataElement:
    if vr == "SQ":
        if value:
            raise MessageError(str(Tag(tag)), "a sequence can only be emptied", 102)
        return DataElement(tag, "SQ", Sequence([]))
    try:
        return DataElement(tag, vr, _typed(vr, value))
    except (ValueError, TypeError, OverflowError):
        # the library's error would name the value
        raise MessageError(str(Tag(tag)), f"the value is none of VR {vr}", 102) from None


def _typed(vr: str, value: str) -> object:
    if not value:
        return None if vr in _INTEGERS | _FLOATS else ""
    if vr in _INTEGERS | _FLOATS:
        numbers = [float(part) if vr in _FLOATS else int(part) for part in value.split("\\")]
        return numbers if len(numbers) > 1 else numbers[0]
    return value
