"""Specific Character Set: whether a text fits, and datasets moved from one set to another."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from pydicom.charset import convert_encodings, custom_encoders, decode_bytes, python_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag, private_dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS, PersonName

from broker.errors import MessageError
from broker.letters import nearest

UNICODE = "ISO_IR 192"
TRANSLITERATE = "transliterate"
UNENCODABLE = (TRANSLITERATE, "unicode")  # what may become of a text that does not fit
_DEFAULT = "iso8859"  # what pydicom takes for the default repertoire, which is ASCII
_MOST = {"SH": 16, "LO": 64, "PN": 64}  # characters
_DELIMITERS = frozenset("\\^=")
_CODED = frozenset(("SH", "LO", "ST", "LT", "PN", "UC", "UT"))


def is_known(terms: Sequence[str]) -> bool:
    """Whether each term is one of DICOM's defined terms for Specific Character Set."""
    return all(term in python_encoding for term in terms)


def encodings_of(terms: Sequence[str]) -> list[str]:
    """Return the codecs of these terms; what is no term of DICOM's counts as the default repertoire."""
    known = [term if term in python_encoding or (term.startswith("ISO") and term.isprintable()) else "" for term in terms]
    return convert_encodings(known)


def charset_of(dataset: Dataset) -> list[str]:
    """Return the terms of the dataset's Specific Character Set; empty when it has none."""
    value = dataset.get("SpecificCharacterSet")
    if not value:
        return []
    return [value] if isinstance(value, str) else [str(term) for term in value]


def fits(text: str, terms: Sequence[str]) -> bool:
    """Whether each component group and value of the text can be written in one of these character sets."""
    if text.isascii():
        return True
    encodings = ["ascii" if encoding == _DEFAULT else encoding for encoding in encodings_of(terms)]
    return all(any(_can(part, encoding) for encoding in encodings) for part in text.replace("\\", "=").split("="))


def _can(text: str, encoding: str) -> bool:
    try:
        if encoding in custom_encoders:
            custom_encoders[encoding](text, errors="strict")
        else:
            text.encode(encoding)
    except UnicodeError:
        return False
    return True


def _texts(element: DataElement) -> list[str]:
    value = element.value
    values = value if not isinstance(value, str | PersonName) and element.VM > 1 else [value]
    return [str(v) for v in values]


def _coded(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset.iterall():
        if element.VR in _CODED and not element.is_empty:
            yield element


def to_unicode(header: Dataset) -> None:
    """Turn a header as read into ISO_IR 192, all its text with it.

    Raises MessageError when a text is not valid in the set it claims: writing it anew would change it silently.
    """
    _check_texts(header, encodings_of(charset_of(header)))
    header.decode()
    header.SpecificCharacterSet = UNICODE
    _forget_inner_sets(header)


def _check_texts(dataset: Dataset, encodings: Sequence[str]) -> None:
    for tag in dataset.keys():  # noqa: SIM118 - iterating the dataset itself would decode every element
        element = dataset.get_item(tag)
        vr = element.VR or _known_vr(dataset, tag)
        if vr == "SQ":
            for item in dataset[tag].value:
                own = charset_of(item)
                _check_texts(item, encodings_of(own) if own else encodings)
        elif vr in _CODED and isinstance(element.value, bytes) and not _decodes(vr, element.value, encodings):
            raise MessageError(keyword_for_tag(tag), "text that is not valid in its Specific Character Set", 102)


def _known_vr(dataset: Dataset, tag: BaseTag) -> str:
    """Return the VR that an element without one will be read by; UN, whose bytes stay as they are, when the library knows none."""
    try:
        if not tag.is_private:
            return dictionary_VR(tag)
        return private_dictionary_VR(tag, str(dataset[tag.group, tag.element >> 8].value)) if tag.element > 0xFF else "LO"
    except KeyError:
        return "UN"


def _decodes(vr: str, value: bytes, encodings: Sequence[str]) -> bool:
    return "\ufffd" not in decode_bytes(value, encodings, PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS)


def _forget_inner_sets(dataset: Dataset) -> None:
    """Take the character sets out of all items: they now follow the dataset around them."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                item.pop("SpecificCharacterSet", None)
                _forget_inner_sets(item)


def write_in(dataset: Dataset, sets: Sequence[Sequence[str]], unencodable: str = TRANSLITERATE) -> None:
    """Make a dataset of plain text ready to be written in the first of these (lists of) character sets that holds all of it.

    Where none does, it is written in the first, with the nearest letters. Where a character has none, or `unencodable` is
    "unicode", the whole dataset goes to ISO_IR 192 instead.
    """
    coded = list(_coded(dataset))
    texts = [text for element in coded for text in _texts(element)]
    terms = next((terms for terms in sets if all(fits(text, terms) for text in texts)), None)
    if terms is None and unencodable == TRANSLITERATE and _transliterate(coded, sets[0]):
        terms = sets[0]
    terms = (UNICODE,) if terms is None else terms
    if terms:
        dataset.SpecificCharacterSet = list(terms) if len(terms) > 1 else terms[0]
    else:
        dataset.pop("SpecificCharacterSet", None)


def _transliterate(coded: Sequence[DataElement], terms: Sequence[str]) -> bool:
    """Write the nearest letters where a text does not fit; when one has none, change nothing and return False."""
    unfit = [element for element in coded if not all(fits(text, terms) for text in _texts(element))]
    near = [_nearest(element, terms) for element in unfit]
    if None in near:
        return False
    for element, texts in zip(unfit, near, strict=True):
        element.value = texts if element.VM > 1 else (texts or [""])[0]
    return True


def _nearest(element: DataElement, terms: Sequence[str]) -> list[str] | None:
    """Return the values with the nearest letters these sets have, None when there are none or they are too many for the VR."""

    def holds(text: str) -> bool:
        return fits(text, terms) and not _DELIMITERS & set(text)

    values = []
    for text in _texts(element):
        text = unicodedata.normalize("NFC", text)
        found = [c if c.isascii() or fits(c, terms) else nearest(c, holds) for c in text]
        letters = [c for c in found if c is not None]
        if len(letters) < len(found) or not fits("".join(letters), terms):
            return None
        values.append("".join(letters))
        if len(values[-1]) > max(_MOST.get(element.VR, len(values[-1])), len(text)):
            return None
    return values
