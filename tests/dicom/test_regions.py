from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, UltrasoundImageStorage

from broker.dicom.regions import Device, boxes_of, to_mask
from broker.errors import MessageError
from tests.dicom.objects import ct

DEVICE = Device("Ultrasound Image Storage", "ACME", "SONO 1", 480, 640, ((0, 0, 640, 40),))


def ultrasound(**attributes: object) -> Dataset:
    ds = ct()
    ds.SOPClassUID, ds.Manufacturer, ds.ManufacturerModelName, ds.Rows, ds.Columns = UltrasoundImageStorage, "ACME", "SONO 1", 480, 640
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def test_a_known_device_is_masked_where_it_writes() -> None:
    assert to_mask(ultrasound(), [Device(manufacturer="OTHER"), DEVICE]) == ((0, 0, 640, 40),)
    assert to_mask(ultrasound(), [Device(sop_class=UltrasoundImageStorage)]) == ()


@pytest.mark.parametrize("other", [{"Rows": 481}, {"ManufacturerModelName": "SONO 2"}, {"SOPClassUID": SecondaryCaptureImageStorage}])
def test_another_one_is_held(other: dict[str, object]) -> None:
    with pytest.raises(MessageError, match="no regions are listed"):
        to_mask(ultrasound(**other), [DEVICE])


def test_what_says_that_nothing_is_burned_in_is_believed_and_what_says_it_is_held() -> None:
    assert to_mask(ultrasound(BurnedInAnnotation="NO"), []) is None
    ds = ct()
    assert to_mask(ds, []) is None
    ds.BurnedInAnnotation = "YES"
    with pytest.raises(MessageError):
        to_mask(ds, [])


def test_without_pixels_there_is_nothing_to_mask() -> None:
    ds = ultrasound()
    del ds.PixelData
    assert to_mask(ds, []) is None


def test_boxes_are_read() -> None:
    assert boxes_of("0 0 640 40, 500 440 140 40") == ((0, 0, 640, 40), (500, 440, 140, 40))
    assert boxes_of("") == ()
    for wrong in ("1 2 3", "0 0 0 4", "-1 0 4 4", "a b c d"):
        with pytest.raises(ValueError):  # noqa: PT011 - int's own
            boxes_of(wrong)
