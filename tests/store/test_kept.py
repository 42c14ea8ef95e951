"""What is still in the spool, as it goes to the archives, on every engine."""

from __future__ import annotations

import re
from typing import Any

import pytest

from broker.dicom.query import IMAGE, PATIENT, SERIES, STUDY
from broker.dicom.storerequest import encode_request
from broker.model import Outgoing, Received, Spooled, StoreRequest
from broker.ris.entities import Exam, Instance, Patient, PatientIdentifier
from broker.store import journal, outbox
from broker.store.engine import Transaction
from broker.store.kept import ACCESSION, kept
from broker.store.records import RecordStore
from tests.store.conftest import Harness
from tests.store.test_records import Explained


def take(store: Harness, uid: str, *destinations: str, study: str = "1.2", exam: int | None = None, gone: bool = False) -> None:
    """Take an object in that goes to these destinations."""
    spooled = Spooled(f"20260302/{uid}.dcm", "1.2.840.10008.5.1.4.1.1.2", uid, "1.2.840.10008.1.2.1", 100, "d")

    def run(tx: Transaction) -> None:
        raw = encode_request(StoreRequest(spooled))
        received = Received("modalities", "dicom", "C-STORE", "CT1", "", uid, raw, "d", spooled)
        id = journal.insert(tx, received, 1.0, state="routed")
        outbox.enqueue(tx, [(id, sending(spooled, one)) for one in destinations], 1.0)
        tx.execute("delete from object where message_id = ?", (id,))
        tx.execute(
            "insert into object (message_id, name, uid, sop_class, size, state) values (?, ?, ?, '', 100, ?)",
            (id, spooled.name, uid, "deleted" if gone else "kept"),
        )
        RecordStore(tx).add(
            Instance(
                uid=uid,
                series_uid=f"{study}.1",
                study_uid=study,
                exam_id=exam,
                accession="SENT",
                sent_patient_id="SENT",
                spool=spooled.name,
                message_id=id,
            )
        )

    store.run(run)


def sending(spooled: Spooled, destination: str, patient: str = "") -> Outgoing:
    payload = encode_request(StoreRequest(spooled, {"PatientID": patient or destination}))
    return Outgoing(destination, "lane", "images", "C-STORE", payload, "", "A1")


def find(store: Harness, archives: list[str], limit: int = 10, by_series: bool = False, **keys: list[str]) -> list[Any]:
    rows = store.run(kept, archives, keys, limit, by_series=by_series)
    return [(one.request.spooled.sop_instance, one.request.changes.get("PatientID", ""), one.delivered, one.count) for one in rows]


def settle(store: Harness) -> None:
    store.run(lambda tx: tx.execute("update delivery set state = 'delivered'"))


def test_an_object_is_there_as_it_goes_to_an_archive(store: Harness) -> None:
    take(store, "1.5", "research", "archive")
    take(store, "1.6", "research")
    take(store, "1.7", "archive", gone=True)
    assert find(store, ["archive", "vna"], **{STUDY: ["1.2"]}) == [("1.5", "archive", False, 1)]
    settle(store)
    assert find(store, ["archive"], **{SERIES: ["1.2.1"]}) == [("1.5", "archive", True, 1)]
    assert find(store, ["vna"], **{IMAGE: ["1.5"]}) == []


def test_of_a_corrected_object_the_last_version_counts(store: Harness) -> None:
    take(store, "1.5", "archive")
    settle(store)
    spooled = Spooled("20260302/1.5.dcm", "1.2.840.10008.5.1.4.1.1.2", "1.5", "1.2.840.10008.1.2.1", 100, "d")
    store.run(lambda tx: outbox.enqueue(tx, [(1, sending(spooled, "archive", "RIGHT"))], 2.0))
    assert find(store, ["archive"], **{IMAGE: ["1.5"]}) == [("1.5", "RIGHT", False, 1)]


def test_without_archives_what_goes_nowhere_is_there_when_it_has_an_exam(store: Harness) -> None:
    take(store, "1.5")
    take(store, "1.6", exam=7)
    assert find(store, [], **{STUDY: ["1.2"]}) == [("1.6", "", False, 1)]


def test_the_order_names_patient_study_and_accession_as_well(store: Harness) -> None:
    def order(tx: Transaction) -> int:
        records = RecordStore(tx)
        patient = records.add(Patient(family="DOE"))
        records.add(PatientIdentifier(patient_id=patient.id, value="4711", authority="GENHOSP"))
        return records.add(Exam(patient_id=patient.id, accession="A1", study_uid="1.9")).id

    exam = store.run(order)
    take(store, "1.5", "archive", exam=exam)
    for keys in ({PATIENT: ["4711"]}, {PATIENT: ["SENT"]}, {STUDY: ["1.9"]}, {ACCESSION: ["A1"]}, {ACCESSION: ["SENT"], STUDY: ["1.2"]}):
        assert [one[0] for one in find(store, ["archive"], **keys)] == ["1.5"], keys
    assert find(store, ["archive"], **{PATIENT: ["4712"]}) == []


def test_a_series_is_stood_for_by_one_of_its_images(store: Harness) -> None:
    for uid in ("1.5", "1.6", "1.7"):
        take(store, uid, "archive")
    take(store, "1.8", "archive", study="1.3")
    assert find(store, ["archive"], by_series=True) == [("1.8", "archive", False, 1), ("1.7", "archive", False, 3)]
    assert len(find(store, ["archive"], limit=2)) == 2


@pytest.mark.parametrize("keys", [{}, {PATIENT: ["1"]}, {STUDY: ["1"]}, {ACCESSION: ["1"]}, {STUDY: ["1"], SERIES: ["1"], IMAGE: ["1"]}])
@pytest.mark.parametrize("by_series", [False, True])
def test_what_has_left_the_spool_is_not_looked_at(harness: Any, keys: dict[str, list[str]], by_series: bool) -> None:
    def plans(tx: Transaction) -> list[str]:
        explained = Explained(tx)
        kept(explained, ["archive"], keys, 10, by_series=by_series)  # type: ignore[arg-type]
        return explained.plans

    harness.db = harness.open(":memory:")
    assert [plan for plan in harness.run(plans) if re.search(r"SCAN i\b", plan)] == []
