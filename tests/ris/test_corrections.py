"""How images find their exam, by rule and by a person's word; what was said can be taken back while nothing was said after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.errors import MessageError
from broker.ris import corrections as law
from broker.ris.corrections import Said, Sent
from broker.ris.entities import Correction, Instance, Unmatched
from broker.ris.images import BY

SAID = Said("anna", "typo")


def images(ris: Any, study: str = "2.25.555") -> list[Instance]:
    return ris.records.find(Instance, study_uid=study)


def entry(ris: Any) -> Unmatched:
    [found] = ris.open_entries()
    return found


def by_patient(ris: Any, uid: str = "1", **fields: Any) -> list[str]:
    return ris.told(replace(ris.image(uid, **({"patient": "4711"} | fields)), by=BY, taken_at=fields.get("taken_at", "202603020900")))


def test_by_patient_modality_and_time(ris: Any) -> None:
    exam = ris.place()
    assert by_patient(ris) == ["study.stored"]
    assert by_patient(ris, "2") == []  # the next ones follow the first
    assert [one.exam_id for one in images(ris)] == [exam.id] * 2


@pytest.mark.parametrize(
    "other", [{"modality": "MR"}, {"taken_at": "202603040900"}, {"patient": "other"}, {"issuer": "ELSEWHERE"}, {"patient": ""}]
)
def test_another_modality_time_or_patient_fits_not(ris: Any, other: dict[str, str]) -> None:
    ris.place()
    ris.register("other")
    assert by_patient(ris, **other) == ["unmatched.listed"]


def test_what_fits_two_exams_fits_none(ris: Any) -> None:
    ris.place("P1")
    ris.place("P2")
    assert by_patient(ris) == ["unmatched.listed"]
    assert entry(ris).reason == "several exams of the patient fit"


def test_without_that_rule_it_is_only_proposed(ris: Any) -> None:
    ris.place()
    assert ris.told(ris.image("1", patient="4711", taken_at="202603020900")) == ["unmatched.listed"]
    ris.place("P2")  # nor does a later order take it
    assert entry(ris).window == 0


def test_a_later_order_of_the_patient_takes_it(ris: Any) -> None:
    assert by_patient(ris) == ["unmatched.listed"]
    ris.place(procedure=ris_mr())
    assert len(ris.open_entries()) == 1
    exam = ris.place("P2")
    assert ris.open_entries() == []
    assert images(ris)[0].exam_id == exam.id


def ris_mr() -> Any:
    from tests.ris.conftest import KNEE

    return KNEE


@pytest.mark.parametrize(("issuer", "linked"), [("", True), ("HOSP", True), ("ELSEWHERE", False)])
def test_an_accession_number_of_another_issuer_is_another_one(ris: Any, issuer: str, linked: bool) -> None:
    exam = ris.place()
    ris.do(ris.image("1", accession=exam.accession, accession_issuer=issuer))
    assert (images(ris)[0].exam_id == exam.id) is linked


def test_an_accession_number_keeps_its_issuer(ris: Any) -> None:
    exam = ris.place(accession="X1", accession_issuer="ELSEWHERE")
    ris.do(ris.image("1", accession="X1", accession_issuer="ELSEWHERE"))
    ris.do(ris.image("2", "2.25.556", accession="X1", accession_issuer="HOSP"))
    assert [images(ris)[0].exam_id, images(ris, "2.25.556")[0].exam_id] == [exam.id, None]


def test_an_image_that_says_something_else_does_not_follow_its_study(ris: Any) -> None:
    exam = ris.place()
    ris.register("other")
    ris.do(ris.image("1", exam.study_uid, patient="4711"))
    assert ris.told(ris.image("2", exam.study_uid, patient="other")) == ["unmatched.listed"]


def test_linked_whatever_it_says(ris: Any) -> None:
    exam = ris.place()
    ris.register("other")
    ris.do(ris.image("1", exam.study_uid, patient="other"))
    done = law.link(ris.records, entry(ris), exam, SAID, ris.context)
    assert [event.name for event in done.events] == ["unmatched.resolved", "study.stored"]
    assert (images(ris, exam.study_uid)[0].exam_id, ris.exam().images) == (exam.id, 1)
    assert done.again == (images(ris, exam.study_uid)[0].message_id,)
    assert (done.correction.author, done.correction.why) == ("anna", "typo")
    with pytest.raises(MessageError, match="closed already"):
        law.entry_of(ris.records, done.correction.entry_id or 0)


def test_corrected_to_another_patients_exam_is_refused(ris: Any) -> None:
    exam = ris.place()
    ris.register("other")
    ris.do(ris.image("1", accession="A9"))
    with pytest.raises(MessageError, match="another patient"):
        law.correct(ris.records, entry(ris), exam.accession, ("other", ""), SAID, ris.context)


def test_corrected_patient_of_whom_one_exam_fits(ris: Any) -> None:
    exam = ris.place()
    ris.do(ris.image("1", patient="4171", taken_at="202603020900"))
    done = law.correct(ris.records, entry(ris), "", ("4711", ""), SAID, ris.context)
    assert (done.correction.what, done.correction.exam_id) == ("corrected", exam.id)


def test_released_with_what_comes_later_of_its_study(ris: Any) -> None:
    ris.do(ris.image("1"))
    done = law.release(ris.records, entry(ris), SAID, ris.context)
    assert done.again
    assert ris.told(ris.image("2")) == []
    assert [(one.exam_id, one.released) for one in images(ris)] == [(None, 1)] * 2
    law.undo(ris.records, done.correction, ris.context)
    assert images(ris)[0].released == 0
    assert len(ris.open_entries()) == 1


def test_moved_and_back(ris: Any) -> None:
    wrong, right = ris.place("P1"), ris.place("P2", "8888")
    ris.do(ris.image("1", wrong.study_uid))
    ris.do(ris.image("2", wrong.study_uid, series_uid="2.25.557"))
    first, second = images(ris, wrong.study_uid)
    [chosen] = law.chosen(ris.records, wrong.study_uid, "2.25.557")
    assert chosen == second
    done = law.move(ris.records, [first, second], right, SAID, ris.context, Sent({first.id}, "key"))
    assert [event.name for event in done.events] == ["study.moved", "study.stored"]
    assert [one.reissue for one in images(ris, wrong.study_uid)] == ["key", ""]  # nobody had the second one
    assert (ris.exam("P1").images, ris.exam("P2").images) == (0, 2)
    law.undo(ris.records, law.latest(ris.records, study_uid=wrong.study_uid), ris.context)
    assert (ris.exam("P1").images, ris.exam("P2").images) == (2, 0)
    assert ris.records.get(Correction, done.correction.id).undone_at is not None


def test_only_the_last_word_can_be_taken_back(ris: Any) -> None:
    one, two, three = ris.place("P1"), ris.place("P2", "8888"), ris.place("P3", "9999")
    ris.do(ris.image("1", one.study_uid))
    first = law.move(ris.records, images(ris, one.study_uid), two, SAID, ris.context)
    law.move(ris.records, images(ris, one.study_uid), three, SAID, ris.context)
    with pytest.raises(MessageError, match="undo that first"):
        law.undo(ris.records, first.correction, ris.context)


def test_images_of_several_exams_are_moved_by_series(ris: Any) -> None:
    one, two = ris.place("P1"), ris.place("P2", "8888")
    ris.do(ris.image("1", one.study_uid))
    ris.do(ris.image("2", one.study_uid, series_uid="2.25.557"))
    law.move(ris.records, law.chosen(ris.records, one.study_uid, "2.25.557"), two, SAID, ris.context)
    with pytest.raises(MessageError, match="name the series"):
        law.chosen(ris.records, one.study_uid)


def test_an_identifier_as_a_person_writes_it() -> None:
    assert law.identifier("4711") == ("4711", "")
    assert law.identifier(" 4711^^^GENHOSP ") == ("4711", "GENHOSP")
