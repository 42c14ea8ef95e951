from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from broker.dicom.deidentify import Deidentification, deidentify
from broker.dicom.pseudonyms import Pseudonyms
from broker.errors import MessageError
from tests.dicom.objects import ct

KEY = b"0123456789abcdef"


def cleaned(ds: Dataset, *options: str, **lists: object) -> Dataset:
    made = deepcopy(ds)
    deidentify(made, Deidentification(frozenset(options), **lists), Pseudonyms(KEY))  # type: ignore[arg-type]
    return made


def test_the_patient_is_a_pseudonym_and_all_says_so() -> None:
    ds = ct()
    made = cleaned(ds)
    assert made.PatientID == made.PatientName == Pseudonyms(KEY).patient("4711")
    assert (made.PatientIdentityRemoved, made.LongitudinalTemporalInformationModified) == ("YES", "REMOVED")
    assert [code.CodeValue for code in made.DeidentificationMethodCodeSequence] == ["113100"]
    assert made.PixelData == ds.PixelData
    assert (made.Rows, made.Modality) == (16, "CT")


def test_nothing_of_what_identifies_is_left_anywhere() -> None:
    ds = ct()
    ds.ReferringPhysicianName, ds.InstitutionName, ds.StudyDescription = "Dr^House", "Princeton", "CT of DOE"
    ds.OtherPatientIDs, ds.PatientBirthDate, ds.StudyTime = "MRN-QX", "19700101", "081500"
    inner = Dataset()
    inner.PatientName, inner.ReferencedSOPInstanceUID, inner.AccessionNumber = "DOE^JANE", ds.SOPInstanceUID, "A1"
    ds.ReferencedStudySequence = [inner]
    ds.SourceImageSequence = [deepcopy(inner)]
    ds.private_block(0x0011, "DOE PRIVATE", create=True).add_new(1, "LO", "DOE^JANE")
    text = str(cleaned(ds))
    for secret in ("DOE", "House", "Princeton", "MRN-QX", "19700101", "20260302", "A1", ds.SOPInstanceUID, ds.StudyInstanceUID):
        assert secret not in text, secret


def test_uids_are_replaced_the_same_way_everywhere() -> None:
    ds, other = ct(), ct()
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    other.SourceImageSequence = [item]
    assert cleaned(other).SourceImageSequence[0].ReferencedSOPInstanceUID == cleaned(ds).SOPInstanceUID
    assert cleaned(ds).SOPClassUID == ds.SOPClassUID
    assert cleaned(ds, "retain_uids").SOPInstanceUID == ds.SOPInstanceUID


def test_the_dates_of_a_patient_all_move_by_the_same_days() -> None:
    ds, later = ct(), ct()
    ds.StudyDate, ds.AcquisitionDateTime, ds.StudyTime = "20260302", "20260302081500.5+0100", "081500"
    later.StudyDate = "20260401"
    days = Pseudonyms(KEY).days("4711")
    one, other = cleaned(ds, "retain_modified_dates"), cleaned(later, "retain_modified_dates")
    assert -1826 <= days <= -1
    assert one.LongitudinalTemporalInformationModified == "MODIFIED"
    assert one.StudyDate == one.AcquisitionDateTime[:8] != "20260302"
    assert one.AcquisitionDateTime[8:] == "081500.5+0100"
    assert one.StudyTime == "081500"
    assert (other["StudyDate"].value > one["StudyDate"].value) is True


@pytest.mark.parametrize("wrong", ["2026", "tomorrow", "20261332", "00010101"])
def test_a_date_that_is_none_goes(wrong: str) -> None:
    ds = ct()
    ds.add_new("StudyDate", "DA", "")
    ds["StudyDate"]._value = wrong
    assert not cleaned(ds, "retain_modified_dates").get("StudyDate")


def test_descriptions_stay_when_the_site_has_listed_them() -> None:
    ds = ct()
    ds.StudyDescription, ds.SeriesDescription = "CT Thorax", "for Mrs Doe"
    made = cleaned(ds, "clean_descriptors", descriptions={"CT Thorax": "CT CHEST"})
    assert made.StudyDescription == "CT CHEST"
    assert "SeriesDescription" not in made


def test_private_attributes_go_but_those_of_the_list() -> None:
    ds = ct()
    assert not [element for element in cleaned(ds) if element.tag.is_private]
    made = cleaned(ds, "retain_safe_private", private={("BROKER TEST", 0x00090001)})
    assert made.private_block(0x0009, "BROKER TEST")[1].value == bytes(range(256))
    assert (0x0009, 0x1002) not in made


def test_a_structured_report_is_emptied_or_cleaned_all_the_way_down() -> None:
    source = dcmread(str(get_testdata_file("test-SR.dcm")))
    assert not cleaned(source).ContentSequence
    made = cleaned(source, "clean_structured_content")
    assert len(made.ContentSequence) == len(source.ContentSequence)
    texts = {str(element.value) for element in made.iterall() if element.keyword in ("TextValue", "PersonName")}
    assert texts <= {"REMOVED", ""}


def test_a_document_is_held() -> None:
    ds = ct()
    ds.EncapsulatedDocument = b"%PDF"
    with pytest.raises(MessageError, match="a document cannot be de-identified"):
        cleaned(ds)


@given(st.lists(st.sampled_from(["StudyDate", "SeriesTime", "AcquisitionDateTime", "PatientAge", "PatientWeight", "ContentLabel"])))
def test_it_is_the_same_when_done_again(keywords: list[str]) -> None:
    ds = ct()
    for keyword in keywords:
        setattr(ds, keyword, "")
    once = cleaned(ds)
    assert str(cleaned(ds)) == str(once)
