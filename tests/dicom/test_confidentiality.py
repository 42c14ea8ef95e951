from __future__ import annotations

import csv

import pytest
from pydicom.datadict import dictionary_has_tag
from pydicom.tag import Tag

from broker.dicom.confidentiality import OPTIONS, TABLE, Profile


def actions(*options: str) -> Profile:
    return Profile(options)


@pytest.mark.parametrize(
    ("keyword", "options", "action"),
    [
        ("PatientName", (), "Z"),
        ("PatientBirthDate", (), "Z"),
        ("SOPInstanceUID", (), "U"),
        ("SOPInstanceUID", ("retain_uids",), "K"),
        ("StudyDate", (), "Z"),
        ("StudyDate", ("retain_full_dates",), "K"),
        ("StudyDate", ("retain_modified_dates",), "C"),
        ("StudyDescription", (), "X"),
        ("StudyDescription", ("clean_descriptors",), "C"),
        ("InstitutionName", (), "D"),
        ("InstitutionName", ("retain_institution",), "K"),
        ("PatientSex", ("retain_patient_characteristics",), "K"),
        ("StationName", ("retain_device_identity",), "K"),
        ("ReferencedImageSequence", (), "U"),
        ("ContentSequence", (), "D"),
        ("ContentSequence", ("clean_structured_content",), "C"),
        ("Rows", (), ""),
        ("PixelData", (), ""),
    ],
)
def test_the_table_says(keyword: str, options: tuple[str, ...], action: str) -> None:
    assert actions(*options).action(Tag(keyword)) == action


@pytest.mark.parametrize("group", [0x5000, 0x5002, 0x501E])
def test_curves_go(group: int) -> None:
    assert actions().action(Tag(group, 0x3000)) == "X"


@pytest.mark.parametrize(("element", "action"), [(0x3000, "X"), (0x4000, "X"), (0x0010, "")])
def test_of_overlays_the_data_and_the_comments_go(element: int, action: str) -> None:
    assert actions().action(Tag(0x6002, element)) == action


def test_every_cell_is_an_action_and_every_attribute_is_known_or_newer_than_the_dictionary() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 600
    for row in rows:
        assert row["basic"] in {"D", "Z", "X", "U", "X/Z", "X/D", "X/Z/D", "Z/D", "X/Z/U*"}, row
        assert {row[choice.column] for choice in OPTIONS.values() if choice.column} <= {"", "K", "C"}, row
        assert "x" in row["tag"] or bool(row["keyword"]) == dictionary_has_tag(int(row["tag"], 16)), row
    assert [row["tag"] for row in rows] == sorted({row["tag"] for row in rows}, key=str.lower)
