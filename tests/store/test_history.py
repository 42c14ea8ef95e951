"""What a while's messages need to be run again, and what the queues hold, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

from broker.model import Outgoing, Received
from broker.ris.entities import Exam, Patient, PatientIdentifier, Step
from broker.store import audit, history, journal, outbox, queues
from broker.store.engine import Transaction
from broker.store.history import Made, Wanted
from broker.store.records import RecordStore


def keep(tx: Transaction, at: float, *about: int, kind: str = "ORM^O01", listener: str = "hospital", **known: Any) -> int:
    """Keep a message that was about these patients, and return its id."""
    id = journal.insert(tx, Received(listener, "hl7", kind, "EHR", "", f"C{at}", b"raw", "d"), at, **{"state": "routed", **known})
    for patient in about:
        journal.about(tx, id, patient)
    return id


def test_the_messages_of_a_while_are_found_oldest_first(store: Any) -> None:
    ids = [store.run(keep, float(at)) for at in range(6)]
    other = store.run(keep, 10.0, kind="ADT^A04", listener="clinic")
    store.run(keep, 11.0, state="answered")
    assert store.run(history.wanted, Wanted(2.0)) == [*ids[2:], other]
    assert store.run(history.wanted, Wanted(2.0, until=4.0)) == ids[2:4]
    assert store.run(history.wanted, Wanted(0.0, kind="ADT^A04")) == store.run(history.wanted, Wanted(0.0, listener="clinic")) == [other]
    assert store.run(history.wanted, Wanted(0.0, limit=2)) == [ids[5], other]
    assert [row.id for row in store.run(history.messages, [other, *ids])] == [*ids, other]
    assert store.run(history.messages, []) == []


def patients(tx: Transaction) -> tuple[int, int, int]:
    """Three patients: the second was merged into the first."""
    records = RecordStore(tx)
    first = records.add(Patient()).id
    second = records.add(Patient(merged_into=first)).id
    records.add(PatientIdentifier(patient_id=first, value="4711"))
    return first, second, records.add(Patient()).id


def test_what_led_up_to_a_message_reaches_over_merges_and_accession_numbers(store: Any) -> None:
    first, second, third = store.run(patients)
    old = store.run(keep, 1.0, second)
    order = store.run(keep, 2.0, first)
    stranger = store.run(keep, 3.0, third)
    store.run(lambda tx: RecordStore(tx).add(Exam(patient_id=first, accession="A1")).id)
    image = store.run(keep, 4.0, kind="C-STORE", accession="A1")
    last = store.run(keep, 5.0, first)
    later = store.run(keep, 6.0, first)
    people = store.run(history.patients, [last], [], [])
    assert people == {first}
    assert store.run(history.patients, [], ["4711"], []) == store.run(history.patients, [], [], ["A1"]) == {first}
    assert store.run(history.patients, [stranger], [], []) == {third}
    assert store.run(history.history, people, last) == ({old, order, image, last}, {first, second})
    assert later not in store.run(history.history, people, last)[0]


def test_the_numbers_that_orders_were_given_are_known_by_their_message(store: Any) -> None:
    first, _, _ = store.run(patients)

    def order(tx: Transaction) -> int:
        id, records = keep(tx, 1.0, first), RecordStore(tx)
        for number in (1, 2):
            exam = records.add(
                Exam(patient_id=first, accession=f"A{number}", requested_procedure_id=f"RP{number}", study_uid=f"1.{number}")
            )
            for step in (1, 2):
                records.add(Step(exam_id=exam.id, sps_id=f"SPS{number}{step}"))
            audit.note(tx, exam.accession, 1.0, "exam.scheduled", "exam", "ris", "", id, "")
        return id

    id = store.run(order)
    made = store.run(history.made, {first})
    assert made == {id: Made(["A1", "A2"], ["RP1", "RP2"], ["SPS11", "SPS12", "SPS21", "SPS22"], ["1.1", "1.2"])}
    assert store.run(history.made, set()) == {}


def test_a_sequence_goes_on_where_it_is_told(store: Any) -> None:
    store.run(history.count_from, "accession", 42)
    assert store.run(lambda tx: RecordStore(tx).number("accession")) == 42
    store.run(history.count_from, "accession", 7)
    assert store.run(lambda tx: RecordStore(tx).number("accession")) == 7


def test_more_than_one_query_takes_is_asked_in_pieces(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MANY", 2)
    ids = [store.run(keep, float(at)) for at in range(5)]
    assert [row.id for row in store.run(history.messages, ids)] == ids


def test_what_the_queues_hold_is_counted_by_destination(store: Any) -> None:
    def queue(tx: Transaction) -> list[int]:
        to = [Outgoing(name, "", "orders", "ORM^O01", b"", "1") for name in ("ehr", "ehr", "archive", "billing")]
        return [one.id for one in outbox.enqueue(tx, [(1, one) for one in to], 1.0)]

    assert store.run(queues.held) == {}
    first, second, third, fourth = store.run(queue)
    store.run(outbox.park, second, "refused", 2.0)
    store.run(outbox.park, third, "refused", 2.0)
    store.run(outbox.delivered, [(fourth, "AA")], 2.0)
    assert first
    assert store.run(queues.held) == {"ehr": (1, 1), "archive": (0, 1)}
    assert store.run(queues.holding, ["billing", "archive", "ehr", "nobody"]) == ["archive", "ehr"]
