"""The reconciliation list at work: linked, corrected, released, moved and undone, down to what the archive gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet.defer import Deferred, maybeDeferred

from broker.config.load import load
from broker.connectors import registry
from broker.connectors.base import Caller
from broker.dicom.dataset import encode
from broker.dicom.files import file_meta
from broker.engine.corrections import Corrections
from broker.engine.stage import Stage
from broker.errors import MessageError, Retry
from broker.model import Spooled
from broker.obs.status import CorrectionItem
from broker.simulate.sinks import Sink
from broker.store import audit, journal
from tests.dicom.objects import ct

ROOT = Path(__file__).parents[2]
CT1 = Caller("modalities", "CT1", "BROKER", "127.0.0.1:50000")
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"


class Desk:
    """A broker on a stage, whose archive keeps what comes, and a person at the reconciliation list."""

    def __init__(self, folder: Path) -> None:
        self.stage = stage = Stage(load(ROOT / "channels.yaml", {}, registry), folder=folder)
        self.sinks = {one.name: Sink(one.name, "dicom" if one.kind == "dicom" else "hl7", stage) for one in stage.config.destinations}
        self.archive = self.sinks["archive"]
        stage.connect(self.sinks.values())
        assert stage.spool is not None
        self.corrections = Corrections(stage.db, stage.time, stage.spool, stage.intake, stage.couriers, stage.again, maybeDeferred)

    def do(self, doing: Any) -> Any:
        """Return what a coroutine of the list comes to, and let all that follows from it happen."""
        found = self.stage.wait(Deferred.fromCoroutine(doing))
        self.stage.settle()
        return found

    def order(self, patient: str = "4711", placer: str = "P1", name: str = "DOE^JANE^Q") -> str:
        """Let the hospital order a CT of a patient; return its accession number."""
        message = (ROOT / "samples" / "orm_ct.hl7").read_text().replace("\n", "\r")
        message = message.replace("4711", patient).replace("P1", placer).replace("DOE^JANE^Q", name).replace("ORM0001", f"C-{placer}")
        answer = self.stage.wait(self.stage.hl7.receive_hl7("hospital", "127.0.0.1:1", message.encode()))
        assert b"MSA|AA" in answer, answer
        self.stage.settle()
        [row] = self.rows("select accession from exams order by id desc limit 1")
        return str(row[0])

    def store(self, study: str = "1.2.3", patient: str = "4711", accession: str = "", uid: str = "", **attributes: Any) -> Dataset:
        """Let CT1 store an image."""
        assert self.stage.spool is not None
        image = ct(instance=uid)
        image.StudyInstanceUID, image.PatientID, image.AccessionNumber = study, patient, accession
        image.SeriesInstanceUID = f"{study}.1"
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        file = self.stage.spool.begin(file_meta(image.SOPClassUID, image.SOPInstanceUID, ExplicitVRLittleEndian))
        file.write([encode(image, ExplicitVRLittleEndian)])
        name, size, digest = self.stage.wait(file.finish())
        spooled = Spooled(name, image.SOPClassUID, image.SOPInstanceUID, ExplicitVRLittleEndian, size, digest)
        assert self.stage.wait(self.stage.dicom.receive_instance(CT1, spooled)) == 0
        self.stage.settle()
        return image

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.stage.wait(self.stage.db.read("test", lambda tx: tx.all(sql)))

    def entry(self) -> int:
        """Return the number of the one open entry."""
        [row] = self.rows("select id from unmatched where resolved_at is null")
        return int(row[0])

    def got(self) -> list[Dataset]:
        """Return what the archive got since it was asked last."""
        images, self.archive.images = self.archive.images, []
        return images

    def timeline(self, accession: str) -> list[str]:
        return [entry.what for entry in self.stage.wait(self.stage.db.read("test", audit.timeline, accession))]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.stage.close()


def test_an_entry_is_listed_with_the_exam_that_fits_best(desk: Desk) -> None:
    accession = desk.order()
    desk.order("9999", "P9", "MUELLER^HANS")
    desk.store(accession=accession[:-2] + accession[-1] + accession[-2])  # two digits exchanged
    [entry] = desk.do(desk.corrections.entries())
    assert (entry.kind, entry.images, entry.reason) == ("images", 1, "no such study or accession number")
    best = desk.do(desk.corrections.entry(entry.id)).candidates[0]
    assert best.accession == accession
    assert best.score > 100
    assert "the accession number is one slip away" in best.reasons
    assert "the patient identifier is the same" in best.reasons
    assert "4711" not in " ".join(best.reasons)


def test_linked_images_take_the_exams_attributes_and_go_on(desk: Desk) -> None:
    accession = desk.order()
    image = desk.store(patient="strange")
    assert desk.got() == []
    done: CorrectionItem = desk.do(desk.corrections.link(desk.entry(), accession, "anna", "typed at the modality"))
    assert (done.what, done.accession, done.images) == ("linked", accession, 1)
    [got] = desk.got()
    assert (got.PatientID, got.AccessionNumber, got.SOPInstanceUID) == ("4711", accession, image.SOPInstanceUID)
    desk.store(patient="strange")  # one more of the same study follows the others
    assert [one.AccessionNumber for one in desk.got()] == [accession]
    assert "linked by hand" in desk.timeline(accession)
    assert desk.rows("select images from exams") == [(2,)]
    assert desk.do(desk.corrections.entries()) == []


def test_released_images_go_on_as_they_are(desk: Desk) -> None:
    image = desk.store(patient="strange", accession="X1")
    desk.do(desk.corrections.release(desk.entry(), "anna", "from elsewhere"))
    desk.store(patient="strange", accession="X1")
    got = desk.got()
    assert [(one.PatientID, one.AccessionNumber) for one in got] == [("strange", "X1")] * 2
    assert got[0].SOPInstanceUID == image.SOPInstanceUID
    assert all("OriginalAttributesSequence" not in one for one in got)


def test_corrected_to_an_exam(desk: Desk) -> None:
    accession = desk.order()
    desk.store(accession="A99")
    done = desk.do(desk.corrections.correct(desk.entry(), accession, "", "anna", "typo"))
    assert (done.what, done.accession) == ("corrected", accession)
    assert [one.AccessionNumber for one in desk.got()] == [accession]


def test_corrected_images_wait_for_their_order(desk: Desk) -> None:
    desk.store(accession="A99", patient="strange")
    desk.do(desk.corrections.correct(desk.entry(), "A00000001", "4711", "anna", "typo"))
    assert desk.got() == []
    assert desk.order() == "A00000001"
    assert [(one.PatientID, one.AccessionNumber) for one in desk.got()] == [("4711", "A00000001")]


def test_a_study_of_the_wrong_patient_is_rejected_and_sent_anew(desk: Desk) -> None:
    wrong, right = desk.order(), desk.order("8888", "P8", "ROE^RICHARD")
    images = [desk.store("1.2.3", accession=wrong), desk.store("1.2.3", accession=wrong)]
    first = desk.got()
    assert [one.PatientID for one in first] == ["4711"] * 2
    done = desk.do(desk.corrections.move("1.2.3", "", right, "worklist", "anna", "wrong entry chosen"))
    assert (done.what, done.accession, done.images, done.sent) == ("moved", right, 2, 1)
    note, *again = desk.got()
    assert note.SOPClassUID == KEY_OBJECTS
    assert note.ConceptNameCodeSequence[0].CodeValue == "113038"
    assert (note.PatientID, note.StudyInstanceUID) == ("4711", first[0].StudyInstanceUID)
    [study] = note.CurrentRequestedProcedureEvidenceSequence
    named = {one.ReferencedSOPInstanceUID for one in study.ReferencedSeriesSequence[0].ReferencedSOPSequence}
    assert named == {one.SOPInstanceUID for one in images}
    [(exam_study,)] = desk.rows(f"select study_uid from exams where accession = '{right}'")
    assert [(one.PatientID, one.AccessionNumber, one.StudyInstanceUID) for one in again] == [("8888", right, exam_study)] * 2
    assert not {one.SOPInstanceUID for one in again} & named
    assert len({one.SeriesInstanceUID for one in again}) == 1
    assert again[0].SeriesInstanceUID != first[0].SeriesInstanceUID
    original = again[0].OriginalAttributesSequence[-1]
    assert (original.ReasonForTheAttributeModification, original.SourceOfPreviousValues) == ("CORRECT", "CT1")
    assert original.ModifiedAttributesSequence[0].SOPInstanceUID in named
    assert desk.rows("select accession, images from exams order by id") == [(wrong, 0), (right, 2)]
    assert "moved by hand" in desk.timeline(wrong)
    assert "moved by hand" in desk.timeline(right)
    # what comes later of the same study goes the same way
    desk.store("1.2.3", accession=wrong)
    [late] = desk.got()
    assert (late.PatientID, late.StudyInstanceUID, late.SeriesInstanceUID) == ("8888", exam_study, again[0].SeriesInstanceUID)


def test_a_move_is_undone_in_the_same_way(desk: Desk) -> None:
    wrong, right = desk.order(), desk.order("8888", "P8", "ROE^RICHARD")
    desk.store("1.2.3", accession=wrong)
    desk.do(desk.corrections.move("1.2.3", "", right, "safety", "anna", "x"))
    first, _, moved = desk.got()
    desk.do(desk.corrections.undo_move("1.2.3", "anna", "was right after all"))
    back, home = desk.got()
    [study] = back.CurrentRequestedProcedureEvidenceSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == moved.SOPInstanceUID
    assert (home.PatientID, home.AccessionNumber) == ("4711", wrong)
    assert len({first.SOPInstanceUID, moved.SOPInstanceUID, home.SOPInstanceUID}) == 3
    assert desk.rows("select images from exams order by id") == [(1,), (0,)]
    with pytest.raises(LookupError):
        desk.do(desk.corrections.undo_move("1.2.3", "anna", "again"))


def test_what_is_still_queued_is_withdrawn_and_goes_out_right(desk: Desk) -> None:
    wrong, right = desk.order(), desk.order("8888", "P8", "ROE^RICHARD")
    desk.archive.up = False
    image = desk.store("1.2.3", accession=wrong)
    desk.do(desk.corrections.move("1.2.3", "", right, "worklist", "anna", "x"))
    desk.archive.up = True
    desk.stage.clock.advance(10)
    desk.stage.settle()
    [got] = desk.got()  # nobody has it, so nothing is rejected
    assert (got.PatientID, got.AccessionNumber, got.SOPInstanceUID) == ("8888", right, image.SOPInstanceUID)
    assert "withdrawn" in desk.timeline(wrong)


def test_a_link_is_undone_and_the_images_wait_again(desk: Desk) -> None:
    accession = desk.order()
    desk.store(patient="strange")
    entry = desk.entry()
    desk.do(desk.corrections.link(entry, accession, "anna", "x"))
    [sent] = desk.got()
    desk.do(desk.corrections.undo(entry, "anna", "mistaken"))
    [note] = desk.got()
    assert note.SOPClassUID == KEY_OBJECTS
    assert desk.entry() == entry
    assert desk.rows("select images from exams") == [(0,)]
    assert desk.stage.wait(desk.stage.db.read("test", journal.parked_count)) == 1
    desk.do(desk.corrections.link(entry, accession, "anna", "after all"))
    [again] = desk.got()
    assert again.SOPInstanceUID != sent.SOPInstanceUID


def test_what_cannot_be_done_is_refused_with_the_reason(desk: Desk) -> None:
    accession = desk.order()
    desk.store(accession=accession)
    for doing, error in {
        desk.corrections.link(77, accession, "anna", "x"): LookupError,
        desk.corrections.undo(77, "anna", "x"): LookupError,
        desk.corrections.move("1.9.9", "", accession, "worklist", "anna", "x"): MessageError,
        desk.corrections.move("1.2.3", "", "nosuch", "worklist", "anna", "x"): MessageError,
        desk.corrections.move("1.2.3", "", accession, "worklist", "anna", "x"): MessageError,
    }.items():
        with pytest.raises(error):
            desk.do(doing)
    assert len(desk.got()) == 1


def test_what_is_being_sent_at_that_moment_is_rejected_too(desk: Desk) -> None:
    wrong, right = desk.order(), desk.order("8888", "P8", "ROE^RICHARD")
    under_way: Deferred[str] = Deferred()
    usual, desk.archive.send = desk.archive.send, lambda delivery: under_way  # type: ignore[method-assign]
    image = desk.store("1.2.3", accession=wrong)
    desk.archive.send = usual  # type: ignore[method-assign]
    desk.do(desk.corrections.move("1.2.3", "", right, "worklist", "anna", "x"))
    assert desk.got() == []  # the note waits for its turn
    under_way.callback("0x0000")
    desk.stage.settle()
    note, moved = desk.got()
    [study] = note.CurrentRequestedProcedureEvidenceSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert moved.SOPInstanceUID != image.SOPInstanceUID


def test_what_fails_while_it_is_taken_back_is_not_sent_again(desk: Desk) -> None:
    wrong, right = desk.order(), desk.order("8888", "P8", "ROE^RICHARD")
    under_way: Deferred[str] = Deferred()
    usual, desk.archive.send = desk.archive.send, lambda delivery: under_way  # type: ignore[method-assign]
    desk.store("1.2.3", accession=wrong)
    desk.archive.send = usual  # type: ignore[method-assign]
    desk.do(desk.corrections.move("1.2.3", "", right, "worklist", "anna", "x"))
    under_way.errback(Retry("connection lost"))
    desk.stage.clock.advance(10)
    desk.stage.settle()
    assert [one.PatientID for one in desk.got()] == ["4711", "8888"]  # the note, and the copy under its new UIDs


def test_only_one_series_is_moved(desk: Desk) -> None:
    wrong, right = desk.order(), desk.order("8888", "P8", "ROE^RICHARD")
    desk.store("1.2.3", accession=wrong, SeriesInstanceUID="1.2.3.5")
    desk.store("1.2.3", accession=wrong, SeriesInstanceUID="1.2.3.6")
    desk.got()
    desk.do(desk.corrections.move("1.2.3", "1.2.3.6", right, "quality", "anna", "x"))
    assert len(desk.got()) == 2
    assert desk.rows("select images from exams order by id") == [(1,), (1,)]


def test_images_that_the_spool_no_longer_has_stay_where_they_are(desk: Desk) -> None:
    wrong, right = desk.order(), desk.order("8888", "P8", "ROE^RICHARD")
    desk.store("1.2.3", accession=wrong)
    desk.got()
    desk.stage.wait(desk.stage.db.run("test", lambda tx: tx.execute("update instances set spool = ''")))
    with pytest.raises(MessageError, match="deleted from the spool"):
        desk.do(desk.corrections.move("1.2.3", "", right, "worklist", "anna", "x"))
    assert desk.rows("select images from exams order by id") == [(1,), (0,)]


def test_a_performed_step_is_linked(desk: Desk) -> None:
    accession = desk.order()
    attributes = Dataset()
    attributes.PerformedProcedureStepStatus, attributes.PatientID, attributes.Modality = "IN PROGRESS", "4711", "CT"
    attributes.PatientName, attributes.PatientBirthDate, attributes.PatientSex = "DOE^JANE^Q", "", ""
    attributes.PerformedProcedureStepID, attributes.PerformedStationAETitle = "PPS1", "CT1"
    attributes.PerformedProcedureStepStartDate, attributes.PerformedProcedureStepStartTime = "20260302", "083000"
    item = Dataset()
    item.AccessionNumber, item.StudyInstanceUID, item.ScheduledProcedureStepID = "TYPO", "1.2.99", ""
    attributes.ScheduledStepAttributesSequence = [item]
    desk.stage.wait(desk.stage.dicom.receive_performed(CT1, True, "1.2.99.1", attributes))
    [entry] = desk.do(desk.corrections.entries())
    assert entry.kind == "performed"
    assert [one.accession for one in desk.do(desk.corrections.entry(entry.id)).candidates] == [accession]
    desk.do(desk.corrections.link(entry.id, accession, "anna", "typo"))
    assert desk.rows(f"select status from exams where accession = '{accession}'") == [("in_progress",)]
    with pytest.raises(MessageError, match="cannot be taken back"):
        desk.do(desk.corrections.undo(entry.id, "anna", "x"))
