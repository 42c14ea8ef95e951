"""Attributes set on the way out, with what was there before kept in Original Attributes Sequence (0400,0561)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from broker.dicom.charset import charset_of, fits, to_unicode
from broker.errors import MessageError

_INTEGERS = frozenset(("US", "SS", "UL", "SL", "UV", "SV"))
_FLOATS = frozenset(("FL", "FD"))


def coerce(header: Dataset, changes: Mapping[str, str], *, reason: str, system: str, now: str) -> Dataset:
    """Set the attributes in the header and return it; originals go to a new item of Original Attributes Sequence.

    changes: DICOM keyword, dotted into the first item of sequences -> value, "" empties. reason: Reason for the Attribute
    Modification (0400,0565), COERCE or CORRECT. system: Modifying System. now: DICOM date time. When the new text does not fit
    the header's Specific Character Set, the whole header becomes ISO_IR 192. Raises MessageError for a keyword or value that
    cannot be set; then the header is of no more use.
    """
    try:
        return _coerce(header, changes, reason, system, now)
    except MessageError:
        raise
    except Exception as error:  # whatever a damaged element raises in the library
        raise MessageError("", "the header cannot be changed", 102) from error


def _coerce(header: Dataset, changes: Mapping[str, str], reason: str, system: str, now: str) -> Dataset:
    if not all(fits(value, charset_of(header)) for value in (*changes.values(), system)):
        to_unicode(header)  # before any element is looked at, for its bytes are checked
    wanted = {path: value for path, value in changes.items() if _text(header, path) != value}
    if not wanted:
        return header
    originals = _originals(header, wanted)
    for path, value in wanted.items():
        _set(header, path.split("."), value)
    note = Dataset()
    note.ModifiedAttributesSequence = [originals]
    note.AttributeModificationDateTime = now
    note.ModifyingSystem = system
    note.SourceOfPreviousValues = ""
    note.ReasonForTheAttributeModification = reason
    earlier = list(header.get("OriginalAttributesSequence") or [])
    header.OriginalAttributesSequence = [*earlier, note]
    return header


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise MessageError(keyword, "not a DICOM keyword", 103)
    return int(tag)


def _text(header: Dataset, path: str) -> str | None:
    """Return the value as a change would spell it; None when the attribute is absent."""
    *sequences, last = path.split(".")
    here = header
    for keyword in sequences:
        items = here[_tag(keyword)].value if _tag(keyword) in here else None
        if not items:
            return None
        here = items[0]
    if _tag(last) not in here:
        return None
    element = here[_tag(last)]
    if element.VR == "SQ":
        return None if element.value else ""
    if element.is_empty:
        return ""
    return "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value)


def _originals(header: Dataset, wanted: Mapping[str, str]) -> Dataset:
    """Return the top-level attributes that are about to change, as they are; an absent one is kept as empty."""
    originals = Dataset()
    for keyword in dict.fromkeys(path.split(".")[0] for path in wanted):
        tag = _tag(keyword)
        originals[tag] = deepcopy(header[tag]) if tag in header else _element(tag, "")
    return originals


def _set(header: Dataset, path: list[str], value: str) -> None:
    tag = _tag(path[0])
    if len(path) == 1:
        header[tag] = _element(tag, value)
        return
    if dictionary_VR(tag) != "SQ":
        raise MessageError(".".join(path), "not a sequence", 102)
    items = list(header[tag].value) if tag in header and header[tag].value else [Dataset()]
    _set(items[0], path[1:], value)
    header[tag] = DataElement(tag, "SQ", Sequence(items))


def _element(tag: int, value: str) -> DataElement:
    vr = dictionary_VR(tag).split(" ")[0]
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
