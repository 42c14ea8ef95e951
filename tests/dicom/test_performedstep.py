"""What an MPPS must have and may change, PS3.4 table F.7.2-1."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from broker.dicom import performedstep
from broker.dicom.dataset import dataset_of, decode, encode
from broker.dicom.performedstep import check_changed, check_created, check_final, merged, selected
from broker.errors import MessageError

SYNTAX = "1.2.840.10008.1.2.1"
CREATED = {
    "Modality": "CT",
    "PerformedStationAETitle": "CT1",
    "PerformedProcedureStepStartDate": "20260302",
    "PerformedProcedureStepStartTime": "101500",
    "PerformedProcedureStepStatus": "IN PROGRESS",
    "PerformedProcedureStepID": "P1",
    "ScheduledStepAttributesSequence.StudyInstanceUID": "1.2.3",
}
FINAL = {
    "PerformedProcedureStepEndDate": "20260302",
    "PerformedProcedureStepEndTime": "103000",
    "PerformedSeriesSequence.SeriesInstanceUID": "1.2.4",
}


def refused(check: object, *given: Dataset) -> tuple[str, int]:
    with pytest.raises(MessageError) as error:
        check(*given)  # type: ignore[operator]
    return error.value.path, error.value.code


def test_what_has_everything_is_created() -> None:
    check_created(dataset_of(CREATED))


@pytest.mark.parametrize("keyword", CREATED)
def test_what_must_be_there_at_creation(keyword: str) -> None:
    path = keyword.replace("Sequence.", "Sequence[1].")
    assert refused(check_created, dataset_of({**CREATED, keyword: ""})) == (path, performedstep.EMPTY)
    rest = {name: value for name, value in CREATED.items() if name != keyword}
    outermost = keyword.partition(".")[0]
    assert refused(check_created, dataset_of(rest)) == (outermost, performedstep.MISSING)


def test_every_step_names_its_study() -> None:
    created = dataset_of(CREATED)
    created.ScheduledStepAttributesSequence = [*created.ScheduledStepAttributesSequence, Dataset()]
    assert refused(check_created, created) == ("ScheduledStepAttributesSequence[2].StudyInstanceUID", performedstep.MISSING)


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
@pytest.mark.parametrize("keyword", FINAL)
def test_what_must_be_there_at_the_end(status: str, keyword: str) -> None:
    ended = {**CREATED, **FINAL, "PerformedProcedureStepStatus": status}
    check_final(dataset_of(ended))
    check_final(dataset_of({**CREATED}))  # not the end yet
    path = keyword.replace("Sequence.", "Sequence[1].")
    assert refused(check_final, dataset_of({**ended, keyword: ""})) == (path, performedstep.EMPTY)
    del ended[keyword]
    assert refused(check_final, dataset_of(ended)) == (keyword.partition(".")[0], performedstep.MISSING)


def test_only_what_was_given_up_may_have_made_nothing() -> None:
    ended = dataset_of({**CREATED, **FINAL, "PerformedProcedureStepStatus": "DISCONTINUED"})
    ended.PerformedSeriesSequence = []
    check_final(ended)
    ended.PerformedProcedureStepStatus = "COMPLETED"
    assert refused(check_final, ended) == ("PerformedSeriesSequence", performedstep.EMPTY)


@pytest.mark.parametrize("keyword", sorted(performedstep.FIXED))
def test_what_may_not_be_changed(keyword: str) -> None:
    before, change = dataset_of(CREATED), Dataset()
    item = dataset_of({"AccessionNumber": "OTHER"})
    setattr(change, keyword, [item] if keyword.endswith("Sequence") else "19990101" if "Date" in keyword else "9")
    assert refused(check_changed, before, change) == (keyword, performedstep.CHANGED)
    assert merged(before, change).get(keyword) == before.get(keyword)  # nor is it where that is let pass


def test_the_same_value_once_more_changes_nothing() -> None:
    before = dataset_of(CREATED)
    again = decode(encode(before, SYNTAX), SYNTAX)
    again.PatientName = ""
    check_changed(before, again)


def test_a_sequence_is_replaced_whole() -> None:
    before = dataset_of({**CREATED, **FINAL})
    change = dataset_of({"PerformedSeriesSequence.SeriesInstanceUID": "1.2.5"})
    after = merged(before, change)
    assert [item.SeriesInstanceUID for item in after.PerformedSeriesSequence] == ["1.2.5"]
    assert before.PerformedSeriesSequence[0].SeriesInstanceUID == "1.2.4"
    assert after.Modality == "CT"


def test_two_character_sets_become_unicode() -> None:
    before = dataset_of({**CREATED, "SpecificCharacterSet": "ISO_IR 100", "PatientName": "MÜLLER"})
    change = dataset_of({"SpecificCharacterSet": "ISO_IR 144", "PerformedProcedureStepDescription": "Голова"})
    after = decode(encode(merged(before, change), SYNTAX), SYNTAX)
    assert (after.SpecificCharacterSet, after.PatientName, after.PerformedProcedureStepDescription) == ("ISO_IR 192", "MÜLLER", "Голова")


def test_attributes_of_type_2_are_there_and_empty() -> None:
    found, missing = selected(dataset_of(CREATED), (0x00100010, 0x00100040, 0x00281050))
    assert [element.keyword for element in found] == ["PatientName", "PatientSex"]
    assert missing == (0x00281050,)
    assert encode(found, SYNTAX) == bytes.fromhex("10001000504e0000 1000400043530000")


def test_the_tag_of_a_path() -> None:
    assert performedstep.tag_of("PerformedSeriesSequence[2].SeriesInstanceUID") == 0x00400340
    assert performedstep.tag_of("no such") == 0
