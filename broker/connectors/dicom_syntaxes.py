"""Which transfer syntaxes a destination is offered for an object, in order of preference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.dicom.negotiation import is_uid
from broker.spec import Option

IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
UNCOMPRESSED = frozenset((IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN))

LOSSLESS = {
    "explicit": EXPLICIT,
    "implicit": IMPLICIT,
    "deflate": DEFLATED,
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
}
LOSSY = {
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG extended": "1.2.840.10008.1.2.4.51",
    "JPEG-LS near": "1.2.840.10008.1.2.4.81",
    "JPEG 2000 lossy": "1.2.840.10008.1.2.4.91",
    "HTJ2K lossy": "1.2.840.10008.1.2.4.203",
}
_NAMES = {**LOSSLESS, **LOSSY}
_LOSSY = frozenset(LOSSY.values())
_WORDS: Mapping[str, tuple[str, ...]] = {"never": (), "lossless": (EXPLICIT, IMPLICIT)}  # what `transcode` may say besides names

SYNTAXES = (
    Option(
        "transcode",
        "texts",
        "What an object is turned into when the peer refuses the transfer syntax it came in: `never`, `lossless` (to explicit or implicit "
        f"VR little endian), or names in the order to try: {', '.join(_NAMES)}, or a UID.",
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


@dataclass(frozen=True, slots=True)
class Syntaxes:
    """The policy of one destination, as UIDs."""

    prefer: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def choices(self, original: str) -> tuple[str, ...]:
        """Return what to offer for an object that came in this transfer syntax, the best first."""
        first = self.prefer if original in UNCOMPRESSED else ()
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
            if name not in _NAMES and not (is_uid(str(name)) and "." in str(name)):
                yield option, f"{name!r} is no transfer syntax; write one of {', '.join(_NAMES)}"
            elif _NAMES.get(name, name) in _LOSSY and settings.get("lossy") != "allowed":
                yield option, f"{name!r} loses something; add lossy: allowed if that may be"


def _uids(names: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(_NAMES.get(name, name) for name in _texts(names))


def _texts(value: Any) -> Sequence[str]:
    return (value,) if isinstance(value, str) else tuple(value)
