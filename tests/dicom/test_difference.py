"""What differs between two headers."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from broker.dicom.difference import changes, difference
from broker.model import Change


def header() -> Dataset:
    item = Dataset()
    item.AccessionNumber = "A1"
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID, dataset.ImageType = "DOE^JANE", "4711", ["ORIGINAL", "PRIMARY"]
    dataset.RequestAttributesSequence = Sequence([item])
    dataset.add_new(0x00091001, "LO", "private")
    dataset.add_new("PixelData", "OW", b"\0" * 8)
    return dataset


def test_headers_that_say_the_same_do_not_differ() -> None:
    assert difference(header(), header()) == []


def test_each_attribute_is_told_by_its_keyword_or_tag_and_its_sequence() -> None:
    after = header()
    after.PatientName = "ROE^RICHARD"
    del after.PatientID
    after.ImageType = ["DERIVED", "PRIMARY"]
    after.RequestAttributesSequence[0].AccessionNumber = "A2"
    more = Dataset()
    more.AccessionNumber = "A3"
    after.RequestAttributesSequence.append(more)
    after[0x00091001].value = "changed"
    after.PixelData = b"\0" * 10
    after.Modality = "CT"
    assert difference(header(), after) == [
        Change("ImageType", "ORIGINAL\\PRIMARY", "DERIVED\\PRIMARY", "changed"),
        Change("Modality", "", "CT", "added"),
        Change("(0009,1001)", "private", "changed", "changed"),
        Change("PatientName", "DOE^JANE", "ROE^RICHARD", "changed"),
        Change("PatientID", "4711", "", "removed"),
        Change("RequestAttributesSequence.AccessionNumber", "A1", "A2", "changed"),
        Change("RequestAttributesSequence[2].AccessionNumber", "", "A3", "added"),
        Change("PixelData", "8 bytes", "10 bytes", "changed"),
    ]


def test_what_a_route_sets_is_told_against_what_was_read() -> None:
    assert changes({"PatientID": "1", "PatientSex": "F"}, {"PatientID": "2", "PatientSex": "F", "Modality": "CT", "PatientName": ""}) == [
        Change("PatientID", "1", "2", "changed"),
        Change("Modality", "", "CT", "added"),
    ]
