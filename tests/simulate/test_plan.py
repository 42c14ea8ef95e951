"""The plan of a morning: deterministic, complete, and its messages readable by the broker's own parser and by python-hl7."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import hl7
import pytest

from broker.hl7.message import Message
from broker.simulate import messages
from broker.simulate.messages import CODECS, Envelope, escape
from broker.simulate.people import FAMILIES, FEMALE, MALE
from broker.simulate.plan import CHARGED, ENDINGS, REPORTED, UNKNOWN_CODE, Morning, plan, report

START = datetime(2026, 3, 2, 8, 0)


@pytest.fixture(scope="module")
def morning() -> Morning:
    return plan(7, 40, START)


def test_the_same_seed_and_start_give_the_same_morning(morning: Morning) -> None:
    assert plan(7, 40, START) == morning
    assert plan(8, 40, START) != morning


def test_another_start_shares_no_identifier(morning: Morning) -> None:
    later = plan(7, 40, replace_minute(START, 1))
    assert not {v.person.mrn for v in morning.visits} & {v.person.mrn for v in later.visits}
    assert not {v.order.placer for v in morning.visits} & {v.order.placer for v in later.visits}
    assert morning.stray_accession != later.stray_accession
    assert [v.order.code for v in morning.visits] == [v.order.code for v in later.visits]


def replace_minute(at: datetime, minute: int) -> datetime:
    return at.replace(minute=minute)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("exams", [12, 40])
def test_a_morning_has_everything_that_happens_in_a_department(seed: int, exams: int) -> None:
    morning = plan(seed, exams, START)
    endings = [visit.ending for visit in morning.visits]
    assert set(endings) == {*ENDINGS, "refused"}
    assert len(endings) == exams + 1
    assert endings.count("refused") == 1
    assert [visit.number for visit in morning.visits] == list(range(1, exams + 2))
    for wanted in ("temporary", "changed", "repeated"):
        assert any(getattr(visit, wanted) for visit in morning.visits), wanted
    assert any(visit.order.priority == "S" for visit in morning.visits)
    assert [visit.order.code for visit in morning.visits].count(UNKNOWN_CODE) == 1


@pytest.mark.parametrize("exams", [0, 1, 2, 3])
def test_a_small_morning_is_one_too(exams: int) -> None:
    morning = plan(1, exams, START)
    assert sum(morning.exams().values()) == exams
    assert len(morning.visits) == exams + 1


def test_what_it_should_lead_to_adds_up(morning: Morning) -> None:
    assert sum(morning.exams().values()) == 40
    assert morning.charges() == sum(visit.ending in CHARGED for visit in morning.visits)
    totals = morning.totals()
    assert totals["patients"] == totals["orders"] == 41
    assert totals["exams"] == sum(visit.images > 0 for visit in morning.visits)
    assert totals["reports"] == 1 + sum(len(REPORTED.get(visit.ending, "")) for visit in morning.visits)
    assert morning.exams()["cancelled"] == sum(visit.ending == "cancelled" for visit in morning.visits)


def test_identifiers_fit_their_fields_and_are_unique(morning: Morning) -> None:
    ids = [message_id for visit in morning.visits for message_id in (visit.envelope(n).control_id for n in range(1, 13))]
    assert len(set(ids)) == len(ids)
    assert max(map(len, ids)) <= 20  # MSH-10 before 2.7
    assert len(morning.stray_accession) <= 16  # SH
    for visit in morning.visits:
        assert len(visit.order.placer) <= 16
        assert len(visit.person.mrn) <= 16


def test_names_can_only_be_invented(morning: Morning) -> None:
    for visit in morning.visits:
        assert visit.person.family in FAMILIES
        assert visit.person.given in FEMALE + MALE
        assert visit.person.birth_date < "20260302"


def every_message(morning: Morning) -> list[bytes]:
    made = []
    for visit in morning.visits:
        made += [
            messages.adt("A04", visit.person, visit.envelope(1)),
            messages.order(visit.kind, "NW", visit.person, visit.order, visit.envelope(3)),
            messages.report(visit.person, report(visit, "A1", "C"), visit.envelope(12)),
        ]
        if visit.temporary:
            made.append(messages.merge(visit.person, visit.temporary, visit.envelope(5)))
    return made


def test_every_message_reads_the_same_here_and_in_python_hl7(morning: Morning) -> None:
    for raw in every_message(morning):
        ours, theirs = Message.parse(raw), hl7.parse(raw.decode(CODECS[Message.parse(raw).get("MSH-18")]))
        assert ours.encode() == raw
        assert ours.control_id == str(theirs.segment("MSH")[10])
        assert ours.get("PID-3.1") == str(theirs.segment("PID")[3]).split("^")[0]
        assert ours.get("PID-18.1") == str(theirs.segment("PID")[18]).split("^")[0]
        assert ours.get("PID-5.1") in FAMILIES
        for name in ours.segment_names():
            assert len(theirs.segments(name)) == ours.segment_names().count(name)


@pytest.mark.parametrize("kind", ["ORM^O01", "OMG^O19", "OMI^O23"])
def test_an_order_says_the_same_in_each_kind_of_message(morning: Morning, kind: str) -> None:
    visit = morning.visits[0]
    order = Message.parse(messages.order(kind, "NW", visit.person, visit.order, visit.envelope(3)))
    assert order.type == kind
    assert order.get("ORC-1") == "NW"
    assert order.get("ORC-2.1") == order.get("OBR-2.1") == visit.order.placer
    assert order.get("OBR-4.1") == visit.order.code
    assert order.get("ORC-12.1") == visit.order.referrer[0]
    assert order.get("DG1-3.1") == visit.order.diagnoses[0][0]
    assert (order.get("ORC-7.6") or order.get("TQ1-9.1")) == visit.order.priority
    assert (order.get("ORC-7.4") or order.get("TQ1-7")) == visit.order.requested_at


def test_a_report_keeps_delimiters_in_its_text_and_names_its_exam(morning: Morning) -> None:
    visit = morning.visits[0]
    text = replace(report(visit, "A1", "F"), lines=("a|b^c&d~e\\f",))
    made = Message.parse(messages.report(visit.person, text, visit.envelope(12)))
    assert made.get("OBX-5") == "a|b^c&d~e\\f"
    assert (made.get("OBR-18"), made.get("OBR-25"), made.get("OBR-32.1")) == ("A1", "F", text.author[0])
    assert made.get("OBR-3.1") == made.get("ORC-3.1") == "A1"


def test_a_merge_names_survivor_and_retired(morning: Morning) -> None:
    visit = next(visit for visit in morning.visits if visit.temporary)
    made = Message.parse(messages.merge(visit.person, visit.temporary, visit.envelope(5)))
    assert made.type == "ADT^A40"
    assert (made.get("PID-3.1"), made.get("MRG-1.1")) == (visit.person.mrn, visit.temporary)


@pytest.mark.parametrize(("charset", "codec"), [("UNICODE UTF-8", "utf-8"), ("8859/1", "latin-1")])
def test_a_message_is_in_the_character_set_it_names(morning: Morning, charset: str, codec: str) -> None:
    person = replace(morning.visits[0].person, family="MUSTERFRÄULEIN")
    raw = messages.adt("A04", person, Envelope("1", "20260302080000", charset=charset))
    assert "MUSTERFRÄULEIN".encode(codec) in raw
    assert Message.parse(raw).get("PID-5.1") == "MUSTERFRÄULEIN"


def test_old_versions_name_no_structure(morning: Morning) -> None:
    person = morning.visits[0].person
    assert Message.parse(messages.adt("A04", person, Envelope("1", "2026", version="2.3.1"))).get("MSH-9.3") == ""
    assert Message.parse(messages.adt("A04", person, Envelope("1", "2026", version="2.5.1"))).get("MSH-9.3") == "ADT_A01"


def test_escaping_is_undone_by_the_parser() -> None:
    text = "\\F\\ |^&~\\"
    person = plan(1, 1, START).visits[0].person
    raw = messages.adt("A04", replace(person, given=text), Envelope("1", "2026"))
    assert Message.parse(raw).get("PID-5.2") == text
    assert "|" not in escape(text)
