"""Specific Character Set: whether a text fits, and datasets moved from one set to another."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence

from pydicom.charset import convert_encodings, custom_encoders, decode_bytes, python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS, PersonName

from broker.errors import MessageError

UNICODE = "ISO_IR 192"
_DEFAULT = "iso8859"  # what pydicom takes for the default repertoire, which is ASCII
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
        vr = element.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
        if vr == "SQ":
            for item in dataset[tag].value:
                own = charset_of(item)
                _check_texts(item, encodings_of(own) if own else encodings)
        elif vr in _CODED and isinstance(element.value, bytes) and not _decodes(vr, element.value, encodings):
            raise MessageError(keyword_for_tag(tag), "text that is not valid in its Specific Character Set", 102)


def _decodes(vr: str, value: bytes, encodings: Sequence[str]) -> bool:
    return "\ufffd" not in decode_bytes(value, encodings, PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS)


def _forget_inner_sets(dataset: Dataset) -> None:
    """Take the character sets out of all items: they now follow the dataset around them."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                item.pop("SpecificCharacterSet", None)
                _forget_inner_sets(item)


def write_in(dataset: Dataset, terms: Sequence[str]) -> None:
    """Make a dataset of plain text ready to be written in these character sets.

    What does not fit loses its accents, and becomes "?" when that does not help.
    """
    for element in _coded(dataset):
        if not all(fits(text, terms) for text in _texts(element)):
            fitted = [_fitted(text, lambda part: fits(part, terms)) for text in _texts(element)]
            element.value = fitted if element.VM > 1 else fitted[0]
    if terms:
        dataset.SpecificCharacterSet = list(terms) if len(terms) > 1 else terms[0]
    else:
        dataset.pop("SpecificCharacterSet", None)


def _fitted(text: str, good: Callable[[str], bool]) -> str:
    return "".join(c if good(c) else _plain(c) for c in text)


def _plain(character: str) -> str:
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return base or "?"
