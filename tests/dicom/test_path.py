"""DICOM paths: keywords and tags, into items of sequences, private ones with their creator."""

from __future__ import annotations

import re

import pytest

from broker.dicom.path import canonical, is_plain, parse

SPELLINGS = {
    "PatientID": "PatientID",
    "(0010,0020)": "PatientID",
    "(0040,0275)[1].(0040,0009)": "RequestAttributesSequence.ScheduledProcedureStepID",
    "RequestAttributesSequence[1].ScheduledProcedureStepID": "RequestAttributesSequence.ScheduledProcedureStepID",
    "RequestAttributesSequence[2].(0040,0009)": "RequestAttributesSequence[2].ScheduledProcedureStepID",
    "(0040,0275)[1]": "RequestAttributesSequence[1]",
    '(0029,"SIEMENS CSA HEADER",1a)': '(0029,"SIEMENS CSA HEADER",1A)',
    'RequestAttributesSequence.(0009,"A.B",01)': 'RequestAttributesSequence.(0009,"A.B",01)',
}


@pytest.mark.parametrize(("path", "spelled"), SPELLINGS.items())
def test_every_spelling_has_one_form(path: str, spelled: str) -> None:
    assert canonical(path) == spelled
    assert canonical(spelled) == spelled
    assert parse(path)[-1] == parse(spelled)[-1]


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("PatientIdd", "PatientIdd is no DICOM keyword"),
        ("", "is no DICOM keyword or tag"),
        ("PatientID.", "is no DICOM keyword or tag"),
        (".PatientID", "is no DICOM keyword or tag"),
        ("PatientID PatientName", "is no DICOM keyword or tag"),
        ("RequestAttributesSequence[0].PatientID", "is no DICOM keyword or tag"),
        ("RequestAttributesSequence[*].PatientID", "is no DICOM keyword or tag"),
        ("(0010,20)", "is no DICOM keyword or tag"),
        ("PatientID.PatientName", "PatientID is not a sequence"),
        ("(0010,0020).PatientName", "PatientID is not a sequence"),
        ("(0010,9999)", "not in the data dictionary"),
        ("(0029,1010)", "is private: name it with its creator"),
        ('(0028,"X",10)', "is even"),
    ],
)
def test_what_is_no_path_says_why(path: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)):
        parse(path)
    assert canonical(path) == path
    assert not is_plain(path)


def test_plain_is_what_an_arriving_header_is_read_by() -> None:
    assert is_plain("PatientID")
    assert is_plain("RequestAttributesSequence[1].ScheduledProcedureStepID")
    assert not is_plain("RequestAttributesSequence[2].ScheduledProcedureStepID")
    assert not is_plain("RequestAttributesSequence[1]")
    assert not is_plain('(0029,"SIEMENS CSA HEADER",10)')
