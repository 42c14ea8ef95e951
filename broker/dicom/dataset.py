"""Headers and identifiers: pydicom datasets read from and written to bytes; the fast `scan` stands beside."""

from __future__ import annotations

import logging
import os
import warnings
import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import BinaryIO, cast

from pydicom import config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from broker.dicom.coerce import put_at
from broker.dicom.files import read_meta
from broker.dicom.inflate import Inflating
from broker.dicom.path import canonical, is_plain
from broker.dicom.scan import BIG_ENDIAN, DEFLATED, IMPLICIT_SYNTAXES, ROUTING, scan
from broker.errors import MessageError

__all__ = [
    "DECODABLE",
    "ROUTING",
    "dataset_of",
    "decode",
    "encode",
    "encode_header",
    "name_of",
    "put",
    "read_header",
    "scan",
    "silence_libraries",
    "texts_of",
    "value_of",
]

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
DECODABLE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, BIG_ENDIAN)  # syntaxes of identifiers and attribute lists

_BULK = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_PIXELS = 0x7FE00000
_UNDEFINED = 0xFFFFFFFF
_MOST_INFLATED = 1 << 28  # bytes of a deflated object that has to be changed
_MOST_HEADER = 1 << 28  # bytes of any other's header


def decode(data: bytes, syntax: str) -> Dataset:
    """Return the dataset of an identifier or attribute list; raises MessageError."""
    try:
        dataset = read_dataset(BytesIO(data), syntax in IMPLICIT_SYNTAXES, syntax != BIG_ENDIAN)
        _check_whole(dataset)
        dataset.decode()
    except Exception as error:  # whatever damaged bytes raise in the library
        raise MessageError("", "the dataset cannot be decoded", 102) from error
    return dataset


def _check_whole(dataset: Dataset) -> None:
    """Raise EOFError when a value is cut off, which the library takes for a shorter one."""
    for element in dataset.values():
        if isinstance(element, RawDataElement) and element.value is not None and element.length not in (len(element.value), _UNDEFINED):
            raise EOFError


def encode(dataset: Dataset, syntax: str) -> bytes:
    """Return the dataset in that transfer syntax, text in its own Specific Character Set; raises MessageError."""
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = syntax in IMPLICIT_SYNTAXES, syntax != BIG_ENDIAN
    try:
        write_dataset(out, dataset)
    except Exception as error:  # whatever a damaged element raises in the library
        raise MessageError("", "the dataset cannot be encoded", 102) from error
    return out.getvalue()


def read_header(source: str | os.PathLike[str]) -> tuple[Dataset, int]:
    """Return everything before group 7FE0 of a DICOM file, and the offset of the rest, which may be the end of the file.

    A deflated object is read whole, as its bytes cannot be cut. Raises MessageError when the header cannot be read.
    """
    with open(source, "rb") as file:
        meta = read_meta(file)
        file.seek(meta.offset)
        deflated = meta.transfer_syntax == DEFLATED
        stream = _inflated(file) if deflated else cast(BinaryIO, _Bounded(file))
        try:
            dataset = read_dataset(
                stream,
                meta.transfer_syntax in IMPLICIT_SYNTAXES,
                meta.transfer_syntax != BIG_ENDIAN,
                stop_when=None if deflated else _at_pixels,
            )
            _check_whole(dataset)
        except MessageError:
            raise
        except Exception as error:  # whatever a damaged header raises in the library
            raise MessageError("", "the header cannot be read", 102) from error
        return dataset, file.seek(0, os.SEEK_END) if deflated else file.tell()


class _Bounded:
    """A file of which only so much can be read, whatever lengths stand in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = file, _MOST_HEADER
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Return bytes of the file; raises MessageError beyond what can be."""
        data = self._file.read(size if 0 <= size <= self._left else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise MessageError("", "the header is too large to be changed", 102)
        return data


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return int(tag) >= _PIXELS


def _inflated(file: BinaryIO) -> BinaryIO:
    data = Inflating(file).read(_MOST_INFLATED + 1)
    if len(data) > _MOST_INFLATED:
        raise MessageError("", "the deflated dataset is too large to be changed", 102)
    return cast(BinaryIO, BytesIO(data))


def encode_header(header: Dataset, syntax: str) -> bytes:
    """Return what `read_header` gave as bytes of that transfer syntax; untouched elements keep their very bytes."""
    data = encode(header, syntax)
    if syntax != DEFLATED:
        return data
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflate.compress(data) + deflate.flush()
    return data + b"\0" * (len(data) % 2)


def name_of(element: DataElement) -> str:
    """Return the keyword of an element, its tag when it has none."""
    return element.keyword or f"({element.tag.group:04X},{element.tag.element:04X})"


def value_of(element: DataElement) -> str:
    r"""Return the value as text, several values separated by `\`; of bulk data only how many bytes it has."""
    value = element.value
    if value is None:
        return ""
    if element.VR in _BULK and isinstance(value, bytes):
        return f"{len(value)} bytes"
    return "\\".join(map(str, value)) if isinstance(value, MultiValue | list) else str(value)


def dataset_of(attributes: Mapping[str, str]) -> Dataset:
    """Return the dataset of keywords and texts; a dotted keyword stands in the first item of its sequence."""
    dataset = Dataset()
    for path, text in attributes.items():
        put(dataset, path, text)
    return dataset


def put(dataset: Dataset, path: str, text: str) -> None:
    """Set a keyword, or a dotted one in the first item of its sequence, making the item when there is none; or at any other path."""
    if not is_plain(path):
        put_at(dataset, path, text)
        return
    *sequences, keyword = canonical(path).split(".")
    for sequence in sequences:
        if not dataset.get(sequence):
            setattr(dataset, sequence, Sequence([Dataset()]))
        dataset = dataset.get(sequence)[0]
    setattr(dataset, keyword, text)


def texts_of(dataset: Dataset, prefix: str = "") -> dict[str, str]:
    """Return the attributes by keyword, dotted into the first items of sequences, as text; bulk data are left out."""
    found: dict[str, str] = {}
    for element in dataset:
        if not element.keyword or isinstance(element.value, bytes):
            continue
        if element.VR == "SQ":
            found |= texts_of(element.value[0], f"{prefix}{element.keyword}.") if element.value else {}
        else:
            found[prefix + element.keyword] = value_of(element)
    return found


def silence_libraries() -> None:
    """Keep pydicom and pynetdicom from printing what they find odd: their warnings and logs name values, which are patients' data.

    This holds for the whole process; it also spares the time of checking values that are passed on as they are.
    """
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    for library in ("pydicom", "pynetdicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)  # their modules' loggers inherit it
        warnings.filterwarnings("ignore", module=library)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"broker\.")
