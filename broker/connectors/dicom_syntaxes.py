"""Which transfer syntaxes a destination is offered for an object, in order of preference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import uid
from pydicom.uid import UID

from broker.dicom.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from broker.dicom.scan import BIG_ENDIAN, DEFLATED
from broker.dicom.transcode import LOSSY
from broker.spec import Option

_NAMES: Mapping[str, UID] = {
    "explicit": uid.ExplicitVRLittleEndian,
    "implicit": uid.ImplicitVRLittleEndian,
    "deflate": uid.DeflatedExplicitVRLittleEndian,
    "RLE": uid.RLELossless,
    "JPEG lossless": uid.JPEGLosslessSV1,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000": uid.JPEG2000Lossless,
    "HTJ2K": uid.HTJ2KLossless,
    "JPEG baseline": uid.JPEGBaseline8Bit,
    "JPEG extended": uid.JPEGExtended12Bit,
    "JPEG-LS near": uid.JPEGLSNearLossless,
    "JPEG 2000 lossy": uid.JPEG2000,
}
# what `transcode` may say besides names
_WORDS: Mapping[str, tuple[str, ...]] = {"never": (), "lossless": (EXPLICIT_LITTLE, IMPLICIT_LITTLE)}

SYNTAXES = (
    Option(
        "transcode",
        "texts",
        "What an object is turned into when the peer refuses the transfer syntax it came in: `never`, `lossless` (to explicit or implicit "
        f"VR little endian), or names in the order to try: {', '.join(_NAMES)}, or their UIDs.",
        default="lossless",
        example=["JPEG-LS", "explicit"],
    ),
    Option(
        "prefer",
        "texts",
        "Transfer syntaxes to send what is not compressed in, where the peer takes them, as on a thin link; by the same names.",
        default=[],
        example=["JPEG-LS"],
    ),
    Option(
        "lossy",
        "text",
        "Whether syntaxes that lose something may be used; without it they must not be named.",
        default="refuse",
        choices=("refuse", "allowed"),
    ),
)


_UNCOMPRESSED = frozenset((EXPLICIT_LITTLE, IMPLICIT_LITTLE, DEFLATED, BIG_ENDIAN))


@dataclass(frozen=True, slots=True)
class Syntaxes:
    """The policy of one destination, as UIDs."""

    prefer: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def choices(self, original: str) -> tuple[str, ...]:
        """Return what to offer for an object that came in this transfer syntax, the best first."""
        first = self.prefer if original in _UNCOMPRESSED else ()
        return tuple(dict.fromkeys((*first, original, *self.targets)))


def syntaxes_of(settings: Mapping[str, Any]) -> Syntaxes:
    """Return the policy of settings that `check_syntaxes` has nothing against."""
    words = _texts(settings["transcode"])
    targets = _WORDS.get(words[0]) if len(words) == 1 else None
    return Syntaxes(_uids(settings["prefer"]), _uids(words) if targets is None else targets)


def check_syntaxes(settings: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield the option and what is wrong with it."""
    for option in ("transcode", "prefer"):
        names = _texts(settings.get(option) or ())
        for name in names:
            if option == "transcode" and len(names) == 1 and name in _WORDS:
                continue
            syntax = _NAMES.get(name, name)
            if syntax not in _NAMES.values():
                yield option, f"{name!r} is no transfer syntax that objects can be written in; write one of {', '.join(_NAMES)}"
            elif syntax in LOSSY and settings.get("lossy") != "allowed":
                yield option, f"{name!r} loses something; add lossy: allowed if that may be"


def _uids(names: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(_NAMES.get(name, name) for name in _texts(names))


def _texts(value: Any) -> Sequence[str]:
    return (value,) if isinstance(value, str) else tuple(value)
