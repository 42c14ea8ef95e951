"""What gets into the log, and that patient data does not."""

from __future__ import annotations

import io
import json
import logging
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from broker.errors import MessageError, StoreError
from broker.obs.capture import TwistedObserver, capture
from broker.obs.log import FIELDS, WITHHELD, Log

PATIENT = ("DOE^JANE^Q", "DOE", "19700101", "1970-01-01", "123 MAIN ST^^SPRINGFIELD")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(stream: io.StringIO) -> Log:
    return Log(stream, now=lambda: 1e9)


def test_an_event_is_one_json_line(log: Log, stream: io.StringIO) -> None:
    log.info("message answered", listener="hospital", kind="ORM^O01", code="AA", message_id=7, seconds=0.25)
    assert stream.getvalue().count("\n") == 1
    assert lines(stream) == [
        {
            "time": "2001-09-09T01:46:40.000Z",
            "level": "info",
            "event": "message answered",
            "listener": "hospital",
            "kind": "ORM^O01",
            "code": "AA",
            "message_id": 7,
            "seconds": 0.25,
        }
    ]


def test_on_a_terminal_it_is_key_and_value(stream: io.StringIO) -> None:
    Log(stream, terminal=True, now=lambda: 1e9).warning("delivery parked", destination="archive", reason="no answer in time")
    assert stream.getvalue() == '01:46:40.000 warning delivery parked              destination=archive reason="no answer in time"\n'


def test_bound_fields_are_in_each_event_of_that_log_only(log: Log, stream: io.StringIO) -> None:
    bound = log.bind(destination="archive").bind(port=4242)
    bound.info("connected")
    log.info("connected")
    assert [(line.get("destination"), line.get("port")) for line in lines(stream)] == [("archive", 4242), (None, None)]


def test_a_field_without_a_value_is_left_out(log: Log, stream: io.StringIO) -> None:
    log.info("message answered", accession=None, message_id=0)
    assert "accession" not in lines(stream)[0]
    assert lines(stream)[0]["message_id"] == 0


@pytest.mark.parametrize(
    "fields", [{"patient": "DOE"}, {"PID_5": "DOE"}, {"reason": ["DOE"]}, {"message_id": "DOE"}, {"reason": b"DOE"}, {"path": {"a": "DOE"}}]
)
def test_what_is_not_whitelisted_raises_in_strict_mode_and_is_withheld_otherwise(fields: dict[str, Any], stream: io.StringIO) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))) as caught:
        Log(stream, strict=True).info("message routed", **fields)
    assert "DOE" not in str(caught.value)
    Log(stream).info("message routed", **fields)
    assert WITHHELD in lines(stream)[0].values()
    assert "DOE" not in stream.getvalue()


@pytest.mark.parametrize("event", ["patient DOE", "born 19700101", "two\nlines", "", "a" * 100])
def test_an_event_is_a_plain_phrase(event: str, stream: io.StringIO) -> None:
    with pytest.raises(ValueError, match="plain phrase"):
        Log(stream, strict=True).info(event)
    Log(stream).info(event)
    assert lines(stream)[0]["event"] == WITHHELD


@pytest.mark.parametrize("field", sorted(FIELDS))
@pytest.mark.parametrize("strict", [False, True])
def test_no_field_lets_a_composite_name_out(field: str, strict: bool, stream: io.StringIO) -> None:
    if strict and FIELDS[field] is None:
        with pytest.raises(ValueError, match=field):
            Log(stream, strict=True).info("message routed", **{field: "DOE^JANE^Q"})
    else:
        Log(stream, strict=strict).info("message routed", **{field: "DOE^JANE^Q"})
        assert lines(stream)[0][field] == WITHHELD
    assert "DOE" not in stream.getvalue()


@pytest.mark.parametrize("field", ["reason", "fault", "what", "instead"])
@pytest.mark.parametrize("text", ["born 19700101", "1970-01-01", "seen 1970/12/31 last", "a\nb", "x" * 400, "DOE^JANE"])
def test_free_text_with_a_date_or_a_composite_is_withheld(field: str, text: str, log: Log, stream: io.StringIO) -> None:
    log.info("message refused", **{field: text})
    assert lines(stream)[0][field] == WITHHELD


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("reason", "OBR-4.1: not in table procedures"),
        ("reason", "no answer within 30 s"),
        ("uid", "1.2.826.0.1.3680043.8.498.19700101"),
        ("accession", "A00000001"),
        ("sender", "EHR|GENHOSP"),
        ("peer", "127.0.0.1:50112"),
        ("peer", "[::1]:50112"),
        ("kind", "ORM^O01"),
        ("kind", "C-STORE"),
        ("kind", "OMI^O23^OMI_O23"),
        ("kind", "ACK"),
        ("kind", "exam.scheduled"),
        ("path", "PID-3[2].4.2"),
        ("code", "0x0000"),
        ("name", "exam.scheduled"),
        ("listener", "ehr-2"),
    ],
)
def test_what_the_broker_says_gets_out_as_it_is(field: str, text: str, stream: io.StringIO) -> None:
    Log(stream, strict=True).info("message refused", **{field: text})
    assert lines(stream)[0][field] == text


@given(name=st.text(min_size=1, max_size=20), value=st.one_of(st.text(), st.binary(), st.none(), st.floats(), st.lists(st.text())))
def test_whatever_is_logged_is_one_parsable_line(name: str, value: object) -> None:
    stream = io.StringIO()
    Log(stream).info("message routed", **{name: value})
    assert stream.getvalue().count("\n") == 1
    assert set(lines(stream)[0]) <= {"time", "level", "event", "withheld", *FIELDS}


def fail(patient: str) -> None:
    raise KeyError(patient)


def failing(patient: str) -> Failure:
    try:
        fail(patient)
    except KeyError:
        return Failure()
    raise AssertionError


@pytest.mark.parametrize("patient", PATIENT)
def test_a_foreign_exception_shows_type_and_place_but_no_text(patient: str, log: Log, stream: io.StringIO) -> None:
    log.failure("message failed", failing(patient), message_id=3)
    [line] = lines(stream)
    assert line["type"] == "KeyError"
    assert line["message_id"] == 3
    assert [place.split(":")[0] for place in line["at"].split(" < ")] == ["tests/obs/test_log.py"] * 2
    assert "reason" not in line
    assert patient not in stream.getvalue()


def test_an_exception_of_the_broker_shows_its_text_and_the_type_of_its_cause(log: Log, stream: io.StringIO) -> None:
    try:
        try:
            fail("DOE")
        except KeyError as error:
            raise MessageError("OBR-4.1", "not in table procedures", 103) from error
    except MessageError as error:
        log.failure("message refused", error)
    [line] = lines(stream)
    assert line["type"] == "MessageError from KeyError"
    assert line["reason"] == "OBR-4.1: not in table procedures"
    assert "DOE" not in stream.getvalue()


def test_even_a_text_of_the_brokers_own_goes_through_the_fence(log: Log, stream: io.StringIO) -> None:
    log.failure("store failed", StoreError("row of DOE^JANE, 19700101"))
    assert lines(stream)[0]["reason"] == WITHHELD


def test_a_failure_that_was_waited_for_still_shows_its_place(log: Log, stream: io.StringIO) -> None:
    failure = failing("DOE")
    failure.cleanFailure()
    log.failure("message failed", failure)
    assert "test_log.py" in lines(stream)[0]["at"]


def test_twisted_errors_are_forwarded_without_their_text(stream: io.StringIO) -> None:
    logger = Logger(namespace="twisted.internet.defer", observer=LogPublisher(TwistedObserver(Log(stream, strict=True))))
    logger.failure("Unhandled error of {patient}", failing("DOE^JANE"), patient="DOE^JANE")
    logger.warn("odd answer of {patient}", patient="DOE^JANE")
    logger.info("request of {patient}", patient="DOE^JANE")
    first, second = lines(stream)
    assert (first["event"], first["type"], first["name"]) == ("unexpected error", "KeyError", "twisted.internet.defer")
    assert (second["event"], second["level"]) == ("library warning", "warning")
    assert "DOE" not in stream.getvalue()


def test_library_logging_and_warnings_are_told_by_kind_and_place_only(log: Log, stream: io.StringIO) -> None:
    undo = capture(log)
    try:
        logging.getLogger("some.library").warning("Invalid value for VR PN: %s", "DOE^JANE")
        try:
            fail("DOE^JANE")
        except KeyError:
            logging.getLogger("some.library").exception("cannot read DOE^JANE")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            shown = warnings.showwarning
            shown("Invalid value 'DOE^JANE'", UserWarning, __file__, 7)
    finally:
        undo()
    told = [line for line in lines(stream) if line["event"] == "library warning"]
    assert [line.get("type") for line in told] == [None, "KeyError", "UserWarning"]
    assert "DOE" not in stream.getvalue()
    logging.getLogger("some.library").warning("later")
    assert len(lines(stream)) == len(told)
