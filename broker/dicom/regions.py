"""Where devices burn text into their images, by the site's own list, and which objects may not pass without being on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset
from pydicom.uid import UID

from broker.errors import MessageError

SOP_CLASS_NAMES = frozenset(name for name, kind, *_ in UID_dictionary.values() if kind == "SOP Class")
Box = tuple[int, int, int, int]  # left, top, width, height in pixels

# Images of these SOP classes show text more often than not, unless they say that they do not (PS3.15 E.3.1).
_SUSPECTS = (
    "1.2.840.10008.5.1.4.1.1.3",  # ultrasound multi-frame
    "1.2.840.10008.5.1.4.1.1.6",  # ultrasound
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.77.1",  # visible light
)


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of one kind of images; an empty text or 0 fits everything."""

    sop_class: str = ""  # UID or name
    manufacturer: str = ""
    model: str = ""
    rows: int = 0
    columns: int = 0
    boxes: tuple[Box, ...] = ()  # none: these images show no text

    def fits(self, dataset: Dataset) -> bool:
        """Whether an object is one of these images."""
        uid = str(dataset.get("SOPClassUID") or "")
        return (
            self.sop_class in ("", uid, UID(uid).name)
            and self.manufacturer in ("", str(dataset.get("Manufacturer") or ""))
            and self.model in ("", str(dataset.get("ManufacturerModelName") or ""))
            and self.rows in (0, dataset.get("Rows"))
            and self.columns in (0, dataset.get("Columns"))
        )


def boxes_of(text: str) -> tuple[Box, ...]:
    """Return the boxes of "0 0 640 40, 500 440 140 40"; raises ValueError."""
    boxes = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        left, top, width, height = map(int, part.split())
        if min(left, top) < 0 or min(width, height) <= 0:
            raise ValueError("a box lies inside of the image")
        boxes.append((left, top, width, height))
    return tuple(boxes)


def to_mask(dataset: Dataset, devices: Iterable[Device]) -> tuple[Box, ...] | None:
    """Return the regions to mask, None when the object has no pixels or is not said to show text; raises MessageError when it may.

    An object that is on no list is held when it says that annotations are burned in, or says nothing and is of a SOP class where they
    are usual.
    """
    if "PixelData" not in dataset:
        return None
    for device in devices:
        if device.fits(dataset):
            return device.boxes
    hold_shown(dataset)
    uid = str(dataset.get("SOPClassUID") or "")
    if not dataset.get("BurnedInAnnotation") and any(uid == root or uid.startswith(f"{root}.") for root in _SUSPECTS):
        raise _may_show()
    return None


def hold_shown(dataset: Dataset) -> None:
    """Raise MessageError for an object that says that annotations are burned into its pixels."""
    if "PixelData" in dataset and dataset.get("BurnedInAnnotation") == "YES":
        raise _may_show()


def _may_show() -> MessageError:
    return MessageError("PixelData", "may show who the patient is: no regions are listed for images of this device", 103)
