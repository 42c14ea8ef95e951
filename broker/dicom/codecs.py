"""Frames of pixel data decoded and encoded, by transfer syntax; loaded by the pixel workers alone, as codecs need numpy.

pydicom knows what a frame is and which plugin reads it. Two things are added here: the JPEG processes of PS3.5 section 8.2.1, which
none of its freely licensed plugins reads, and the encoding of HTJ2K.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.common import PhotometricInterpretation as PI
from pydicom.pixels.decoders.base import (
    DecodeRunner,
    JPEGBaseline8BitDecoder,
    JPEGExtended12BitDecoder,
    JPEGLosslessDecoder,
    JPEGLosslessSV1Decoder,
    get_decoder,
)
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    JPEG2000,
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEGTransferSyntaxes,
    RLELossless,
)

from broker.errors import MessageError

Frame = NDArray[Any]  # (rows, columns) or (rows, columns, samples)

_LABEL = "imagecodecs"
_RGB, _YCC = imagecodecs.JPEG8.CS.RGB, imagecodecs.JPEG8.CS.YCbCr
# How much is lost where a loss is allowed, as the encoders have it: quality, ratio, grey levels.
LOSSY: Mapping[str, Mapping[str, Any]] = {
    JPEGBaseline8Bit: {"level": 90},
    JPEGExtended12Bit: {"level": 90},
    JPEG2000: {"j2k_cr": [10]},
    JPEGLSNearLossless: {"jls_error": 2},
}
ENCODED = (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, RLELossless, *LOSSY)

DECODER_DEPENDENCIES = dict.fromkeys(JPEGTransferSyntaxes, ("numpy", "imagecodecs"))


def is_available(uid: str) -> bool:
    """Whether the plugin of this module reads a transfer syntax, as pydicom asks."""
    return uid in DECODER_DEPENDENCIES


def decode_jpeg(src: bytes, runner: DecodeRunner) -> bytearray:
    """Return a frame of JPEG baseline, extended or lossless, its colours as they are in it, as pydicom's plugins do."""
    if runner.samples_per_pixel == 3:
        colours = _colours(str(runner.photometric_interpretation), runner.transfer_syntax)
        frame = imagecodecs.jpeg8_decode(src, colorspace=colours, outcolorspace=colours)
        runner.set_option("planar_configuration", 0)
        if runner.photometric_interpretation == PI.YBR_FULL_422:
            runner.set_option("photometric_interpretation", PI.YBR_FULL)  # the chroma samples are there for each pixel now
    else:
        frame = imagecodecs.jpeg8_decode(src)
    runner.set_option("bits_allocated", frame.dtype.itemsize * 8)
    return bytearray(np.ascontiguousarray(frame))


def _colours(photometric: str, syntax: str) -> Any:
    """Return what the codec shall take the samples for, so that it leaves them alone; the lossless process knows nothing of colours."""
    return _RGB if photometric == PI.RGB or syntax in (JPEGLossless, JPEGLosslessSV1) else _YCC


for _decoder in (JPEGBaseline8BitDecoder, JPEGExtended12BitDecoder, JPEGLosslessDecoder, JPEGLosslessSV1Decoder):
    if _LABEL not in _decoder._available:
        _decoder.add_plugin(_LABEL, (__name__, decode_jpeg.__name__))


def frames(dataset: Dataset) -> Iterator[tuple[Frame, str]]:
    """Give each frame as it is, without colour transformation, and its photometric interpretation; raises MessageError."""
    try:
        for frame, about in get_decoder(dataset.file_meta.TransferSyntaxUID).iter_array(dataset, raw=True):
            little = frame.dtype.newbyteorder("<")
            yield np.ascontiguousarray(frame, little), str(about["photometric_interpretation"])
    except Exception as error:  # whatever damaged pixel data raise in a codec
        raise MessageError("PixelData", f"the pixel data cannot be decoded ({type(error).__name__})", 102) from error


def encode(frame: Frame, syntax: str, photometric: str, bits_stored: int) -> bytes:
    """Return a frame in one of the syntaxes of `ENCODED`; raises MessageError, also when decoding it again gives anything else.

    The photometric interpretation is that of the encoded frame, YBR_RCT or YBR_ICT for a frame of RGB that the codec is to transform.
    """
    about = _about(frame, photometric, bits_stored)
    try:
        encoded = _ENCODERS.get(syntax, _by_plugin)(frame, syntax, about)
        again, _ = next(get_decoder(syntax).iter_array(encapsulate([encoded]), raw=True, pixel_keyword="PixelData", **about))
    except Exception as error:  # whatever a codec finds that it cannot write
        raise MessageError("PixelData", f"the pixel data cannot be encoded ({type(error).__name__})", 102) from error
    same = again.shape == frame.shape if syntax in LOSSY else np.array_equal(again, frame)
    if not same:
        raise MessageError("PixelData", f"the pixel data would not be the same in {UID(syntax).name}", 102)
    return encoded


def _by_plugin(frame: Frame, syntax: str, about: Mapping[str, Any]) -> bytes:
    return get_encoder(syntax).encode(frame.tobytes(), **about, **LOSSY.get(syntax, {}))


def _jpeg(frame: Frame, syntax: str, about: Mapping[str, Any]) -> bytes:
    colours = _colours(about["photometric_interpretation"], syntax) if frame.ndim == 3 else None
    lossless = {"lossless": True, "predictor": 1} if syntax == JPEGLosslessSV1 else LOSSY[syntax]
    given = frame.view(f"u{frame.dtype.itemsize}")
    stored = about["bits_stored"]
    return bytes(imagecodecs.jpeg8_encode(given, colorspace=colours, outcolorspace=colours, bitspersample=stored, **lossless))


def _htj2k(frame: Frame, syntax: str, about: Mapping[str, Any]) -> bytes:
    return bytes(imagecodecs.htj2k_encode(frame, reversible=True, rgb=about["photometric_interpretation"] == PI.YBR_RCT))


# what pydicom's plugins do not write
_ENCODERS: Mapping[str, Callable[[Frame, str, Mapping[str, Any]], bytes]] = {
    HTJ2KLossless: _htj2k,
    JPEGLosslessSV1: _jpeg,
    JPEGBaseline8Bit: _jpeg,
    JPEGExtended12Bit: _jpeg,
}


def _about(frame: Frame, photometric: str, bits_stored: int) -> dict[str, Any]:
    return {
        "rows": frame.shape[0],
        "columns": frame.shape[1],
        "number_of_frames": 1,
        "samples_per_pixel": frame.shape[2] if frame.ndim == 3 else 1,
        "bits_allocated": frame.dtype.itemsize * 8,
        "bits_stored": bits_stored,
        "pixel_representation": int(frame.dtype.kind == "i"),
        "photometric_interpretation": photometric,
        "planar_configuration": 0,
    }


def black(photometric: str, frame: Frame, bits_stored: int) -> Any:
    """Return the value of a black pixel."""
    if photometric == PI.MONOCHROME1:
        return (1 << (bits_stored - (frame.dtype.kind == "i"))) - 1
    if photometric.startswith("YBR"):
        return np.array([0, 128, 128], dtype=frame.dtype)
    return np.iinfo(frame.dtype).min if frame.dtype.kind == "i" and photometric == PI.MONOCHROME2 and bits_stored == 16 else 0


def has_other_bits(dataset: Dataset) -> bool:
    """Whether uncompressed pixels have anything in the bits above Bits Stored but their sign: overlays of old stand there."""
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    if stored >= allocated or allocated not in (8, 16, 32):
        return False
    words = np.frombuffer(dataset.PixelData, f"<u{allocated // 8}", len(dataset.PixelData) * 8 // allocated)
    above = words >> stored
    if dataset.PixelRepresentation == 0:
        return bool(above.any())
    negative = (words >> (stored - 1)) & 1
    return bool((above != negative * ((1 << (allocated - stored)) - 1)).any())
