"""An object in another transfer syntax, without loss; runs in the pixel workers, as codecs need numpy."""

from __future__ import annotations

import os

from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.multival import MultiValue
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from broker.dicom.reissue import reissued
from broker.errors import MessageError

LOSSLESS = (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, RLELossless)
# The Lossy Image Compression Method (0028,2114) of each, as PS3.3 C.7.6.1.1.5.1 has it.
LOSSY = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
}
COMPRESSED = (*LOSSLESS, *LOSSY)  # encapsulated syntaxes that objects can be written in
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
_TRANSFORMED = {JPEG2000Lossless: "YBR_RCT", HTJ2KLossless: "YBR_RCT", JPEG2000: "YBR_ICT"}  # how these code RGB
_WIDTHS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}  # bytes of one number


def transcode(source: str | os.PathLike[str], target: str | os.PathLike[str], syntax: str) -> None:
    """Write the object of one DICOM file to another in another transfer syntax, as `convert` does; raises MessageError."""
    dataset = read(source)
    convert(dataset, syntax)
    write(dataset, target)


def read(source: str | os.PathLike[str]) -> FileDataset:
    """Return a whole object, little endian; raises MessageError."""
    try:
        dataset = dcmread(source)
        if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
            dataset.walk(_swap)
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    except Exception as error:  # whatever a damaged object raises in the library
        raise MessageError("", "the object cannot be read", 102) from error
    return dataset


def convert(dataset: FileDataset, syntax: str) -> None:
    """Bring the pixel data into one of `COMPRESSED` or `NATIVE`; raises MessageError when that would lose anything.

    Each compressed frame is decoded again and compared. Pixel data that stays uncompressed is only copied.
    """
    if syntax not in COMPRESSED and syntax not in NATIVE:
        raise MessageError("TransferSyntaxUID", f"objects cannot be written in {UID(syntax).name}", 103)
    given = dataset.file_meta.TransferSyntaxUID
    if given != syntax and (syntax in COMPRESSED or (given.is_encapsulated and "PixelData" in dataset)):
        _change_pixels(dataset, given, UID(syntax))
    dataset.file_meta.TransferSyntaxUID = UID(syntax)


def write(dataset: FileDataset, target: str | os.PathLike[str]) -> None:
    """Write an object in its transfer syntax; raises MessageError."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        dataset.preamble = dataset.preamble or bytes(128)
        dcmwrite(target, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, force_encoding=True)
    except Exception as error:  # whatever a damaged element raises in the library
        raise MessageError("", "the object cannot be written", 102) from error


def _swap(dataset: Dataset, element: DataElement) -> None:
    """Turn the numbers of bulk data, which the library leaves as they are, to little endian."""
    width = _WIDTHS.get(element.VR, 0)
    if width and element.keyword == "PixelData":
        width = max(width, dataset.get("BitsAllocated", 0) // 8)  # pixels of 32 bits stand in OW as well
    if width and isinstance(element.value, bytes) and len(element.value) % width == 0:
        turned = bytearray(element.value)
        for at in range(width):
            turned[at::width] = element.value[width - 1 - at :: width]
        element.value = bytes(turned)


def _change_pixels(dataset: FileDataset, given: UID, wanted: UID) -> None:
    from broker.dicom import codecs  # an object that stays uncompressed needs none

    if "PixelData" not in dataset:
        raise MessageError("PixelData", f"an object without pixel data cannot be written in {wanted.name}", 103)
    if dataset.get("BitsAllocated") == 1:
        raise MessageError("BitsAllocated", "pixels of one bit cannot be compressed", 103)
    if not given.is_encapsulated and codecs.has_other_bits(dataset):
        raise MessageError("BitsStored", "pixels use bits beyond those stored, which would be lost", 103)
    parts, photometric, stored, allocated = [], "", dataset.get("BitsStored", 0), 0
    native = 0  # bytes
    for frame, kind in codecs.frames(dataset):
        photometric = _TRANSFORMED.get(wanted, kind) if kind == "RGB" else kind
        parts.append(codecs.encode(frame, wanted, photometric, stored) if wanted in COMPRESSED else frame.tobytes())
        allocated = frame.dtype.itemsize * 8
        native += frame.nbytes
    if given in LOSSY and given != JPEG2000:  # of that only the object can tell
        dataset.LossyImageCompression = "01"
    if wanted in LOSSY:
        _tell_loss(dataset, wanted, native / sum(map(len, parts)))
    put_frames(dataset, parts, wanted, photometric, allocated)


def _tell_loss(dataset: FileDataset, syntax: UID, ratio: float) -> None:
    """Make it a derived image with a UID of its own, the same each time, that names what it comes from (PS3.3 C.7.6.1.1.2)."""
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    dataset.SourceImageSequence = [source]
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(reissued(str(dataset.SOPInstanceUID), str(syntax)))
    dataset.ImageType = ["DERIVED", *(list(dataset.get("ImageType") or ())[1:] or ["PRIMARY"])]
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = [*_earlier(dataset, "LossyImageCompressionRatio"), f"{ratio:.2f}"]
    dataset.LossyImageCompressionMethod = [*_earlier(dataset, "LossyImageCompressionMethod"), LOSSY[syntax]]


def _earlier(dataset: Dataset, keyword: str) -> list[str]:
    value = dataset.get(keyword)
    return [] if value in (None, "") else list(value) if isinstance(value, MultiValue) else [value]


def put_frames(dataset: FileDataset, parts: list[bytes], syntax: UID, photometric: str, allocated: int) -> None:
    """Set the pixel data from its frames, as they are in a transfer syntax, colours by pixel."""
    dataset.PhotometricInterpretation, dataset.BitsAllocated = photometric, allocated
    if dataset.get("SamplesPerPixel", 1) > 1:
        dataset.PlanarConfiguration = 0
    del dataset["PixelData"]
    if syntax in COMPRESSED:
        dataset.add_new("PixelData", "OB", encapsulate(parts, has_bot=sum(map(len, parts)) < 1 << 32))
        dataset["PixelData"].is_undefined_length = True
    else:
        pixels = b"".join(parts)
        dataset.add_new("PixelData", "OW" if allocated > 8 else "OB", pixels + b"\0" * (len(pixels) % 2))
