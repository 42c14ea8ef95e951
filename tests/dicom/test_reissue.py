"""Corrected copies: new UIDs that are the same every time, and references that follow them."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from broker.dicom.reissue import identity, reissued, rename_references


def test_a_uid_of_its_own_for_every_key() -> None:
    made = reissued("1.2.3", "key")
    assert made == reissued("1.2.3", "key")
    assert made.startswith("2.25.")
    assert len(made) <= 64
    assert len({made, reissued("1.2.3", "other"), reissued("1.2.4", "key")}) == 3


@pytest.mark.parametrize(("uid", "key"), [("", "key"), ("1.2.3", "")])
def test_nothing_is_made_of_nothing(uid: str, key: str) -> None:
    assert reissued(uid, key) == uid


def test_the_study_is_the_one_where_it_belongs() -> None:
    own = {"StudyInstanceUID": "1", "SeriesInstanceUID": "1.1", "SOPInstanceUID": "1.1.1"}
    assert identity(own, "k", "9") == {
        "StudyInstanceUID": "9",
        "SeriesInstanceUID": reissued("1.1", "k"),
        "SOPInstanceUID": reissued("1.1.1", "k"),
    }
    assert identity(own, "k")["StudyInstanceUID"] == reissued("1", "k")
    assert "SeriesInstanceUID" not in identity({"SOPInstanceUID": "1"}, "k")


def reference(uid: str, sop_class: str = "1.2.840.10008.5.1.4.1.1.2") -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


def series(study: str) -> Dataset:
    inner, outer = Dataset(), Dataset()
    inner.SeriesInstanceUID, inner.ReferencedSOPSequence = "1.1", [reference("1.1.1")]
    outer.StudyInstanceUID, outer.ReferencedSeriesSequence = study, [inner]
    return outer


def test_references_within_the_study_follow() -> None:
    header = Dataset()
    header.CurrentRequestedProcedureEvidenceSequence = [series("1"), series("2")]
    header.ReferencedImageSequence = [reference("1.1.1"), reference("1.1.2")]
    header.ReferencedPerformedProcedureStepSequence = [reference("1.5", "1.2.840.10008.3.1.2.3.3")]
    header.ReferencedStudySequence = [reference("1", "1.2.840.10008.3.1.2.3.1")]
    kept = rename_references(header, "k", "1", "9")
    same, other = header.CurrentRequestedProcedureEvidenceSequence
    assert (same.StudyInstanceUID, same.ReferencedSeriesSequence[0].SeriesInstanceUID) == ("9", reissued("1.1", "k"))
    assert same.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == reissued("1.1.1", "k")
    assert other.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.1.1"
    assert [one.ReferencedSOPInstanceUID for one in header.ReferencedImageSequence] == [reissued("1.1.1", "k"), reissued("1.1.2", "k")]
    assert header.ReferencedPerformedProcedureStepSequence[0].ReferencedSOPInstanceUID == "1.5"
    assert header.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "9"
    assert {element.keyword for element in kept.values()} == {
        "CurrentRequestedProcedureEvidenceSequence",
        "ReferencedImageSequence",
        "ReferencedStudySequence",
    }
    assert next(one for one in kept.values() if one.keyword == "ReferencedImageSequence").value[0].ReferencedSOPInstanceUID == "1.1.1"
