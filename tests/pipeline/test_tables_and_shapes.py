"""Code tables, shapes, headers and the comparison of cases."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from broker.dicom.storerequest import encode_request
from broker.model import Outgoing, Spooled, StoreRequest
from broker.pipeline.cases import Happened, failures, read_cases
from broker.pipeline.header import Header, check_keyword
from broker.pipeline.shape import Mistakes, check, did_you_mean
from broker.pipeline.tables import read_table
from broker.ris.entities import Exam
from broker.spec import Option, Spec, mapping_schema


def test_a_table_is_looked_up_by_its_first_column() -> None:
    table, faults = read_table("sex", '\ufeff# a comment\n\nsent, code, word\nM, M, "male, man"\n W ,F,female\n')
    assert faults == []
    assert table.columns == ("sent", "code", "word")
    assert table.lookup("W") == "F"
    assert table.lookup("M", "word") == "male, man"
    assert table.lookup("X") is None
    assert table.lines["W"] == 5
    with pytest.raises(KeyError):
        table.lookup("M", "nothing")


def test_a_table_that_cannot_be_read_says_where() -> None:
    assert [(f.line, f.what) for f in read_table("t", "")[1]] == [(1, "the table is empty")]
    assert [f.line for f in read_table("t", "a,b\n1,2\n,3\n1,4\n5\n")[1]] == [3, 4, 5]
    assert [f.what for f in read_table("t", "a,b\n1,\x00\n" + "x" * 200_000 + ",1\n")[1]]


SPEC = Spec(
    "s",
    "step",
    "A step.",
    (
        Option("port", "integer", "A port."),
        Option("wait", "duration", "A wait.", "30s"),
        Option("kind", "text", "A kind.", "a", choices=("a", "b")),
        Option("names", "texts", "Names.", ()),
        Option("inner", "mapping", "Inner.", {}, options=(Option("on", "boolean", "On."),)),
    ),
    "s: {port: 1}",
)


@pytest.mark.parametrize(
    ("value", "place", "what"),
    [
        ({"port": 1}, None, ""),
        ({"port": 1, "wait": "5m", "kind": "b", "names": "x", "inner": {"on": True}}, None, ""),
        ({"port": 1, "names": ["x", "y"]}, None, ""),
        ({}, (), "port is missing"),
        ({"port": "1"}, ("port",), "an integer is needed here, not text"),
        ({"port": True}, ("port",), "an integer is needed here, not true or false"),
        ({"port": None}, ("port",), "an integer is needed here, not nothing"),
        ({"port": 1, "prot": 2}, ("prot",), "unknown key prot"),
        ({"port": 1, "wait": "30"}, ("wait",), "30 is not as it must be"),
        ({"port": 1, "wait": 30}, ("wait",), "text is needed here, not an integer"),
        ({"port": 1, "kind": "c"}, ("kind",), "c is not one of a, b"),
        ({"port": 1, "names": 5}, ("names",), "text or a list is needed here"),
        ({"port": 1, "names": ["x", 5]}, ("names", 1), "text is needed here, not an integer"),
        ({"port": 1, "inner": {}}, ("inner",), "on is missing"),
        ({"port": 1, "inner": {"on": "yes"}}, ("inner", "on"), "true or false is needed here"),
        ([], (), "a mapping is needed here, not a list"),
    ],
)
def test_a_shape_is_judged_as_json_schema_judges_it(value: Any, place: tuple[str | int, ...] | None, what: str) -> None:
    mistakes = Mistakes()
    assert check(SPEC.schema(), value, mistakes) is (place is None)
    assert jsonschema.Draft202012Validator(SPEC.schema()).is_valid(value) is (place is None)
    assert [m.place for m in mistakes.found] == ([] if place is None else [place])
    assert all(what in m.what for m in mistakes.found)


@pytest.mark.parametrize(
    ("value", "what", "instead"),
    [
        ({"port": 1, "wait": 30}, "text is needed here, not an integer", "write it such as 30s, 5m or 24h"),
        ({"port": 1, "inner": True}, "a mapping is needed here, not true or false", "write {on: true}"),
        (5, "a mapping is needed here, not an integer", "write {port: 5}"),
        ({"port": 1, "kind": "c"}, "c is not one of a, b", "write one of these"),
    ],
)
def test_a_wrong_shape_says_what_to_write(value: Any, what: str, instead: str) -> None:
    mistakes = Mistakes()
    check(SPEC.schema(), value, mistakes)
    assert [(m.what, m.instead) for m in mistakes.found] == [(what, instead)]


def test_a_mapping_without_a_single_key_that_is_meant_names_its_keys() -> None:
    mistakes = Mistakes()
    check(mapping_schema((Option("from", "text", "From.", ""), Option("to", "text", "To.", ""))), "YYYY", mistakes)
    assert [(m.what, m.instead) for m in mistakes.found] == [("a mapping is needed here, not text", "its keys are from, to")]


def test_a_table_with_semicolons_says_so() -> None:
    assert [(f.line, f.instead) for f in read_table("t", "a;b\n1;2\n")[1]] == [(1, "put commas between the columns")]


def test_did_you_mean() -> None:
    assert did_you_mean("PDI", ["PID", "QPD"]) == "did you mean PID?"
    assert did_you_mean("UTF-8", ["8859/1", "UNICODE UTF-8"]) == "did you mean UNICODE UTF-8?"
    assert did_you_mean("acept", ["accept", "answer"]) == "did you mean accept?"
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("zzz", []) == "none are known"


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("PatientID", ""),
        ("kind", ""),
        ("RequestAttributesSequence.ScheduledProcedureStepID", ""),
        ("PatientID.Modality", "PatientID is not a sequence"),
        ("PatentID", "PatentID is no DICOM keyword; did you mean PatientID?"),
        ("", "is no DICOM keyword"),
    ],
)
def test_a_keyword_is_checked(path: str, what: str) -> None:
    assert what in check_keyword(path)
    assert bool(what) is bool(check_keyword(path))


def test_a_header_collects_changes_and_reads_them_back() -> None:
    header = Header({"PatientID": "1", "ImageType": "A\\B"})
    header.set("PatientID", "1")
    assert header.changes == {}
    copy = header.clone()
    copy.set("PatientID", "2")
    copy.copy("PatientID", "OtherPatientIDs")
    copy.remove("ImageType")
    assert copy.changes == {"PatientID": "2", "OtherPatientIDs": "2", "ImageType": ""}
    assert (copy.get("PatientID"), copy.exists("ImageType"), header.all("ImageType")) == ("2", False, ["A", "B"])


IMAGE = Outgoing("archive", "1", "images", "C-STORE", encode_request(StoreRequest(Spooled("s", "c", "i", "t", 1, "d"), {"PatientID": "2"})))
MESSAGE = Outgoing("ehr", "1", "c", "ORM^O01", b"MSH|^~\\&|A|B|C|D|2026||ORM^O01|1|P|2.3.1\rORC|SC|P1\r")
HAPPENED = Happened("AE", "OBR-4.1", "not in table procedures", "parked", {"exam": Exam(status="scheduled")}, [IMAGE, MESSAGE])


@pytest.mark.parametrize(
    ("expect", "failure"),
    [
        ({"answer": "AE", "message": "parked", "error": {"at": "OBR-4.1", "says": "not in table"}}, ""),
        ({"answer": "AA"}, "answer: expected AA, was AE (OBR-4.1: not in table procedures)"),
        ({"message": "routed"}, "message: expected routed, was parked"),
        ({"error": {"at": "OBR-4"}}, "error at: expected OBR-4, was OBR-4.1"),
        ({"error": {"says": "empty"}}, "error says: expected 'empty', was 'not in table procedures'"),
        ({"state": {"exam": {"status": "scheduled", "images": 0}}}, ""),
        ({"state": {"exam": {"status": "completed"}}}, "exam.status: expected completed, was scheduled"),
        ({"state": {"order": {"status": "present"}}}, "order.status: expected to be present, was absent"),
        ({"sent": {"archive": [{"PatientID": 2, "Modality": "absent"}], "ehr": [{"ORC-2": {"matches": "^P"}, "ORC-1": "present"}]}}, ""),
        ({"sent": {"archive": [{}]}}, "sent to ehr: expected nothing, was ORM^O01"),
        ({"sent": "none"}, "sent to archive: expected nothing, was C-STORE"),
        ({"sent": {"archive": [{}], "ehr": [{}, {}]}}, "sent to ehr: expected 2, was ORM^O01"),
        ({"sent": {"archive": [{}], "ehr": [{"ORC-1": "NW"}]}}, "sent to ehr, message 1 (ORM^O01), ORC-1: expected NW, was SC"),
        ({"sent": {"archive": [{}], "ehr": [{"ORC-1": "absent"}]}}, "ORC-1: expected to be absent, was SC"),
        ({"sent": {"archive": [{}], "ehr": [{"ORC-1": {"matches": "X"}}]}}, "ORC-1: expected to match X, was SC"),
    ],
)
def test_what_happened_is_compared_with_what_was_expected(expect: dict[str, Any], failure: str) -> None:
    mistakes = Mistakes()
    (case,) = read_cases([{"name": "n", "given": "samples/x.hl7", "expect": expect}], mistakes)
    assert mistakes.found == []
    found = failures(case, HAPPENED)
    assert bool(found) is bool(failure)
    assert any(failure in one for one in found) or not failure, found


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ({}, "a list of cases is needed here"),
        ([{"given": "x", "expect": {}}], "name is missing"),
        ([{"name": "n", "given": "x", "expcet": {}, "expect": {}}], "unknown key expcet"),
        ([{"name": "n", "given": {"from": "CT1"}, "expect": {}}], "neither a sample file nor what a modality sends"),
        ([{"name": "n", "given": {"image": {}, "form": "CT1"}, "expect": {}}], "unknown key form"),
        ([{"name": "n", "given": "x", "expect": {"state": {"exam": {"stat": 1}}}}], "exam.stat is nothing the RIS knows"),
        ([{"name": "n", "given": "x", "expect": {"sent": {"ehr": "x"}}}], "destinations, each with a list of messages"),
    ],
)
def test_a_case_that_cannot_be_read_says_why(document: Any, what: str) -> None:
    mistakes = Mistakes()
    read_cases(document, mistakes)
    assert any(what in m.what for m in mistakes.found), mistakes.found
