"""The RIS records: tables as the dataclasses say, every kind there and back, on every engine."""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any, get_type_hints

import pytest

from broker.ris.entities import (
    KINDS,
    Booked,
    Charge,
    Composite,
    Exam,
    Instance,
    Order,
    Patient,
    PatientIdentifier,
    Performed,
    Report,
    Step,
    Unmatched,
)
from broker.ris.records import Records
from broker.store import audit, journal
from broker.store.engine import Transaction
from broker.store.records import SHAPES, TABLES, RecordStore, exam_counts, unmatched_counts

SAMPLES: dict[Any, Any] = {
    str: "Größe 東京 ^&",
    int: 2**40,
    int | None: 7,
    float: 1.5,
    float | None: 2.5,
    Composite: Composite("1^DOE\\T\\^JANE&X"),
    bytes: b"\x00\xffDICM",
    tuple[str, ...]: ("R05", 'J18.9 "quoted"', ""),
}


def sample(kind: type, **changes: Any) -> Any:
    """Return an entity of this kind with a telling value in every field but the id."""
    hints = get_type_hints(kind)
    return kind(**{f.name: SAMPLES[hints[f.name]] for f in dataclasses.fields(kind) if f.name != "id"} | changes)


def columns(tx: Transaction, table: str, postgres: bool) -> list[tuple[str, str]]:
    if postgres:
        return tx.all(
            "select column_name, data_type from information_schema.columns where table_name = ? order by ordinal_position", (table,)
        )
    return [(row[1], row[2].lower()) for row in tx.all(f"pragma table_info({table})")]


COLUMN_TYPES = {str: {"text"}, int: {"bigint", "integer"}, float: {"double precision"}, Composite: {"text"}, tuple[str, ...]: {"text"}}
COLUMN_TYPES[bytes] = {"blob", "bytea"}


def test_every_kind_has_a_table() -> None:
    assert set(TABLES) == set(KINDS)
    assert len(set(TABLES.values())) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_matches_the_dataclass(store: Any, address: str, kind: type) -> None:
    found = store.run(columns, TABLES[kind], address.startswith("postgresql"))
    hints = get_type_hints(kind)
    assert [name for name, _ in found] == [f.name for f in dataclasses.fields(kind)]
    for name, type in found:
        wanted = {int | None: int, float | None: float}.get(hints[name], hints[name])
        assert type in COLUMN_TYPES[wanted], name


@pytest.mark.parametrize("kind", KINDS)
def test_an_entity_comes_back_as_it_was_added_and_as_it_was_updated(store: Any, kind: type) -> None:
    def there_and_back(tx: Transaction) -> None:
        records: Records = RecordStore(tx)
        for entity in (sample(kind), kind()):
            added = records.add(entity)
            assert added.id > 0
            assert dataclasses.replace(added, id=0) == entity
            again = records.get(kind, added.id)
            assert again == added
            assert [type(getattr(again, n)) for n in SHAPES[kind].names] == [type(getattr(added, n)) for n in SHAPES[kind].names]
        changed = dataclasses.replace(sample(kind), id=added.id)
        records.update(changed)
        assert records.get(kind, added.id) == changed
        assert len(records.find(kind)) == 2

    store.run(there_and_back)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_can_be_matched(store: Any, kind: type) -> None:
    def matched(tx: Transaction) -> None:
        records = RecordStore(tx)
        full = records.add(sample(kind))
        empty = records.add(kind())
        for name in SHAPES[kind].names[1:]:
            assert records.find(kind, **{name: getattr(full, name)}) == [full], name
            if (value := getattr(empty, name)) != getattr(full, name):
                assert records.one(kind, **{name: value}) == empty, name

    store.run(matched)


def test_one_is_the_lowest_id_and_find_goes_by_id(store: Any) -> None:
    def check(tx: Transaction) -> None:
        records = RecordStore(tx)
        first, second = (records.add(Exam(accession="A1", images=n)) for n in range(2))
        assert records.one(Exam, accession="A1") == first
        assert records.find(Exam, accession="A1", order_id=None) == [first, second]
        assert records.find(Exam, accession="A1", images=1) == [second]
        assert records.one(Exam, accession="A2") is None
        assert records.find(Exam, order_id=3) == []

    store.run(check)


def test_between_includes_both_ends_and_compares_text_by_code_point(store: Any) -> None:
    def check(tx: Transaction) -> None:
        records = RecordStore(tx)
        starts = ["202603021000", "202603020800", "202603020800", "202603030000", "2026030208"]
        steps = [records.add(Step(start=start, station="CT1")) for start in starts]
        records.add(Step(start="202603020900", station="MR1"))
        found = records.between(Step, "start", "202603020800", "202603021000", station="CT1")
        assert found == [steps[1], steps[2], steps[0]]
        lower, upper = records.add(Exam(accession="a")), records.add(Exam(accession="B"))
        assert records.between(Exam, "accession", "A", "z", order_id=None) == [upper, lower]

    store.run(check)


def test_what_is_not_there_is_a_lookup_error(store: Any) -> None:
    def missing(tx: Transaction, call: Any) -> None:
        call(RecordStore(tx))

    calls = [
        lambda r: r.get(Patient, 1),
        lambda r: r.update(Patient(id=1)),
        lambda r: r.find(Patient, nickname="x"),
        lambda r: r.between(Patient, "nickname", "a", "b"),
    ]
    for call in calls:
        with pytest.raises(LookupError):
            store.run(missing, call)


def test_numbers_have_no_gaps_even_after_a_failure(store: Any) -> None:
    def take(tx: Transaction) -> int:
        return RecordStore(tx).number("accession")

    def take_and_fail(tx: Transaction) -> None:
        take(tx)
        raise LookupError

    assert [store.run(take), store.run(take)] == [1, 2]
    with pytest.raises(LookupError):
        store.run(take_and_fail)
    assert store.run(take) == 3
    assert store.run(lambda tx: RecordStore(tx).number("requested procedure")) == 1


def test_counts(store: Any) -> None:
    def fill(tx: Transaction) -> None:
        records = RecordStore(tx)
        for status in ("scheduled", "scheduled", "completed"):
            records.add(Exam(status=status))
        for kind, resolved_at in (("images", None), ("images", 2.0), ("report", None)):
            records.add(Unmatched(kind=kind, resolved_at=resolved_at))

    store.run(fill)
    assert store.run(exam_counts) == {"completed": 1, "scheduled": 2}
    assert store.run(unmatched_counts) == {"images": 1, "report": 1}


LOOKUPS: list[tuple[type, dict[str, Any]]] = [
    (PatientIdentifier, {"value": "4711", "authority": "HOSP"}),
    (PatientIdentifier, {"patient_id": 1}),
    (Order, {"placer_number": "P1", "placer_authority": "EHR"}),
    (Order, {"filler_number": "F1"}),
    (Order, {"patient_id": 1}),
    (Exam, {"accession": "A1"}),
    (Exam, {"study_uid": "1.2"}),
    (Exam, {"order_id": 1}),
    (Exam, {"patient_id": 1}),
    (Step, {"sps_id": "S1"}),
    (Step, {"exam_id": 1}),
    (Performed, {"uid": "1.2"}),
    (Instance, {"uid": "1.2"}),
    (Instance, {"study_uid": "1.2"}),
    (Report, {"exam_id": 1}),
    (Report, {"accession": "A1"}),
    (Instance, {"study_uid": "1.2", "exam_id": None}),
    (Report, {"study_uid": "1.2", "exam_id": None}),
    (Report, {"placer_number": "P1", "exam_id": None}),
    (Performed, {"study_uid": "1.2", "exam_id": None}),
    (Charge, {"exam_id": 1}),
    (Unmatched, {"key": "1.2", "resolved_at": None}),
    (Unmatched, {"accession": "A1", "resolved_at": None}),
    (Booked, {"station": "CT1"}),
]


def test_postgres_compares_every_text_by_code_point(postgres_url: str, harness: Any) -> None:
    sql = "select count(*), count(*) filter (where collation_name = 'C') from information_schema.columns where data_type = 'text' and"
    harness.db = harness.open(postgres_url)
    [(texts, by_code_point)] = harness.run(lambda tx: tx.all(f"{sql} table_schema = 'public' and table_name <> 'schema_version'"))
    assert texts == by_code_point > 50


class Explained:
    """A transaction that collects SQLite's plans of the queries asked."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.plans: list[str] = []

    def all(self, sql: str, params: Any = ()) -> list[Any]:
        self.plans.append("; ".join(str(row[3]) for row in self._tx.all(f"explain query plan {sql}", params)))
        return []


def test_the_obvious_look_ups_have_an_index(harness: Any) -> None:
    def check(tx: Transaction) -> list[str]:
        explained = Explained(tx)
        records = RecordStore(explained)  # type: ignore[arg-type]
        for kind, match in LOOKUPS:
            records.find(kind, **match)
        records.between(Step, "ends", "1", "2", station="CT1")
        return explained.plans

    harness.db = harness.open(":memory:")
    assert [plan for plan in harness.run(check) if "USING INDEX" not in plan] == []


def test_the_timeline_reads_no_table_from_end_to_end(harness: Any) -> None:
    def check(tx: Transaction) -> list[str]:
        explained = Explained(tx)
        journal.search(explained, accession="A1")  # type: ignore[arg-type]
        audit.timeline(Full(tx, explained), "A1")  # type: ignore[arg-type]
        return explained.plans

    harness.db = harness.open(":memory:")
    harness.run(lambda tx: audit.note(tx, "A1", 1.0, "worklist", "C-FIND", "CT1", "modalities"))
    plans = harness.run(check)
    assert len(plans) == 7
    assert [plan for plan in plans if re.search(r"SCAN (message|delivery|audit_note|exams|patients)\b", plan)] == []


class Full:
    """A transaction that answers, and has each query explained."""

    def __init__(self, tx: Transaction, explained: Explained) -> None:
        self._tx = tx
        self._explained = explained

    def all(self, sql: str, params: Any = ()) -> list[Any]:
        self._explained.all(sql, params)
        return self._tx.all(sql, params)


HOT = {
    "retransmission": "select id from message where sender = '' and control_id = '' order by id desc limit 1",
    "waiting": "select id from delivery where state = 'waiting' and destination = 'a' and id > 0 order by id limit 9",
    "depths": "select destination, count(*), min(id) from delivery where state = 'waiting' group by destination",
    "accession": "select id from message where accession = 'A' and accession <> ''",
    "parked": "select id from message where state = 'parked' order by id desc limit 9",
    "patient": "select message_id from message_patient where patient_id in (1)",
}


@pytest.mark.parametrize("name", HOT)
def test_the_hot_queries_have_an_index_and_sort_nothing(harness: Any, name: str) -> None:
    harness.db = harness.open(":memory:")
    plan = "; ".join(str(row[3]) for row in harness.run(lambda tx: tx.all(f"explain query plan {HOT[name]}")))
    assert "INDEX" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("seed", range(20))
def test_what_is_remembered_is_what_a_query_would_find(store: Any, seed: int) -> None:
    def check(tx: Transaction) -> None:
        random, records, known = Random(seed), RecordStore(tx), list[Exam]()
        asked = [{"accession": "A"}, {"accession": "B"}, {"accession": "A", "order_id": None}, {"images": 1}, {"order_id": 2, "images": 0}]
        for _ in range(60):
            entity = Exam(accession=random.choice("AB"), images=random.randrange(2), order_id=random.choice((None, 2)))
            if known and random.random() < 0.5:
                records.update(replace(entity, id=random.choice(known).id))
            else:
                known.append(records.add(entity))
            for match in random.sample(asked, 2):
                fresh = RecordStore(tx)
                assert records.one(Exam, **match) == fresh.one(Exam, **match)
                assert records.find(Exam, **match) == fresh.find(Exam, **match)
                assert records.get(Exam, known[0].id) == fresh.get(Exam, known[0].id)

    store.run(check)


def test_images_of_one_study_ask_for_its_exam_once(store: Any) -> None:
    def count(tx: Transaction) -> int:
        exam = RecordStore(tx).add(Exam(accession="A1", study_uid="1.2"))
        counting = Counting(tx)
        records = RecordStore(counting)  # type: ignore[arg-type]
        for number in range(5):
            assert records.one(Instance, uid=f"1.2.{number}") is None
            records.add(Instance(uid=f"1.2.{number}", study_uid="1.2"))
            assert records.one(Instance, uid=f"1.2.{number}") is not None
            assert records.one(Instance, study_uid="1.2") is not None
            [found] = records.find(Exam, study_uid="1.2")
            records.update(replace(found, images=found.images + 1))
        assert records.get(Exam, exam.id).images == 5
        return counting.asked

    assert store.run(count) == 5 + 2  # each UID; the first image of the study; the exam


class Counting:
    """A transaction that counts the queries."""

    def __init__(self, tx: Transaction) -> None:
        self._tx, self.asked = tx, 0

    def one(self, sql: str, params: Any = ()) -> Any:
        self.asked += 1
        return self._tx.one(sql, params)

    def all(self, sql: str, params: Any = ()) -> Any:
        self.asked += 1
        return self._tx.all(sql, params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)


def test_what_was_undone_is_asked_for_anew(store: Any) -> None:
    def check(tx: Transaction) -> None:
        records = RecordStore(tx)
        with suppress(ValueError), tx.savepoint():
            records.add(Exam(accession="A1"))
            raise ValueError
        records.forget()
        assert records.one(Exam, accession="A1") is None

    store.run(check)
