"""The site over an in-memory transport: each page, its headers, and what it does when asked wrongly or when the engine fails."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from broker.errors import StoreError
from broker.model import Entry
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.obs.status import (
    ChannelStatus,
    DestinationStatus,
    ExamItem,
    ListenerStatus,
    MessageFilter,
    MessageItem,
    Overview,
    ParkedItem,
    Readiness,
    Trace,
    UnmatchedItem,
)
from broker.web.http import SECURITY_HEADERS
from broker.web.site import LOOPBACK, build_site

HOSTILE = "<script>alert('&\"')</script>"
SPOKEN = b"<script>alert"


class FakeStatus:
    """A status with one of everything, whose texts try to be markup."""

    def __init__(self) -> None:
        self.readiness = Readiness(store=True, listeners={"hospital": True})
        self.filters: MessageFilter | None = None
        self.failing: Exception | None = None
        self.waiting: Deferred[Overview] | None = None
        self.acting: Deferred[None] = Deferred()
        self.done: list[int] = []

    async def status(self) -> Overview:
        if self.failing:
            raise self.failing
        if self.waiting:
            return await self.waiting
        return Overview(
            site=HOSTILE,
            version="1",
            started_at=1e9,
            now=1e9 + 7200,
            listeners=(ListenerStatus("hospital", "mllp", "127.0.0.1:2575", True, 2, {"ORM^O01": 12, HOSTILE: 1}, {"AA": 11, "AE": 1}, 1),),
            channels=(ChannelStatus("orders", "hospital", HOSTILE, 12, 1),),
            destinations=(
                DestinationStatus("archive", "dicom", "127.0.0.1:4242", False, 3, 75.0, 90, 2, 1),
                DestinationStatus("ehr", "mllp", HOSTILE),
            ),
            exams={"scheduled": 4, HOSTILE: 1},
            recent=(ExamItem(f"A1/{HOSTILE}", "scheduled", "", "CT", HOSTILE, "STAT", "202603020800", 3),),
            parked=(ParkedItem("message", 5, 1e9, "hospital", "ORM^O01", "A1", HOSTILE),),
            parked_total=1,
            unmatched=(UnmatchedItem(1, 1e9, "images", HOSTILE, HOSTILE, HOSTILE, 6),),
            unmatched_total=1,
        )

    async def trace(self, accession: str) -> Trace:
        if accession not in ("A1", "A/2 ü"):
            return Trace(accession)
        return Trace(
            accession, (Entry(1e9, "received", "ORM^O01", "hospital", HOSTILE, 5, HOSTILE), Entry(1e9, "x", "y", "", "", None, ""))
        )

    async def messages(self, filters: MessageFilter) -> list[MessageItem]:
        self.filters = filters
        return [MessageItem(5, 1e9, "hospital", "hl7", "ORM^O01", HOSTILE, "127.0.0.1:1", "C1", "parked", "AE", "A1", HOSTILE)]

    async def ready(self) -> Readiness:
        return self.readiness

    async def again(self, message_id: int) -> str:
        if self.failing:
            raise self.failing
        await self.acting
        self.done.append(message_id)
        return "routed"


class Web:
    """The site, and what asks it."""

    def __init__(self, **options: Any) -> None:
        self.status, self.metrics, self.logged = FakeStatus(), Metrics(), io.StringIO()
        self.refreshing: Exception | None = None
        self.site = build_site(self.status, self.metrics, self.refresh, Log(self.logged, strict=True), Clock(), **options)

    async def refresh(self) -> None:
        if self.refreshing:
            raise self.refreshing
        self.metrics.queue_depth.labels("archive").set(3)

    def connect(self, sent: bytes) -> tuple[Any, StringTransport]:
        channel, transport = self.site.buildProtocol(None), StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(sent)
        return channel, transport

    def ask(self, path: str, method: str = "GET", host: str = "localhost:8080") -> tuple[int, dict[str, str], bytes]:
        _, transport = self.connect(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head, _, body = transport.value().partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body

    def json(self, path: str) -> tuple[int, Any]:
        code, headers, body = self.ask(path)
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        return code, json.loads(body)


@pytest.fixture
def web() -> Web:
    return Web()


PAGES = [
    "/",
    "/trace",
    "/trace?accession=A1",
    "/messages",
    "/style.css",
    "/api/status",
    "/api/trace/A1",
    "/api/messages",
    "/metrics",
    "/healthz",
    "/readyz",
]


@pytest.mark.parametrize("path", PAGES)
def test_each_page_answers_with_the_security_headers_and_escapes_everything(web: Web, path: str) -> None:
    code, headers, body = web.ask(path)
    assert code == 200
    assert headers.items() >= SECURITY_HEADERS.items()
    assert int(headers["Content-Length"]) == len(body) > 0
    assert SPOKEN not in body or headers["Content-Type"].startswith("application/json")
    assert web.logged.getvalue() == ""


@pytest.mark.parametrize("path", PAGES)
def test_head_answers_the_same_without_the_body(web: Web, path: str) -> None:
    _, got, body = web.ask(path)
    code, headers, nothing = web.ask(path, "HEAD")
    assert (code, nothing) == (200, b"")
    assert headers["Content-Type"] == got["Content-Type"]
    if path != "/metrics":
        assert int(headers["Content-Length"]) == len(body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(web: Web, method: str) -> None:
    code, headers, _ = web.ask("/", method)
    assert (code, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/",
        "/api/trace",
        "/api/trace/",
        "/metrics/",
        "/trace/A1",
        "/../etc/passwd",
        "//",
        "/%2e%2e/x",
        "/api/trace/A1/x",
    ],
)
def test_unknown_paths_are_not_found(web: Web, path: str) -> None:
    code, headers, body = web.ask(path)
    assert code == 404
    assert headers.items() >= SECURITY_HEADERS.items()
    assert path.encode() not in body or path == "//"


def test_the_console_names_what_there_is(web: Web) -> None:
    _, headers, body = web.ask("/")
    text = body.decode()
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert text.startswith("<!DOCTYPE html>")
    for seen in (
        "127.0.0.1:2575",
        "bound",
        "ORM^O01 12",
        "AE 1",
        "orders",
        "archive",
        "down",
        "1.2 min",
        "parked (1)",
        "unmatched (1)",
        "up 2.0 h",
    ):
        assert seen in text
    assert '<meta http-equiv="refresh" content="5"' in text
    assert 'href="/trace?accession=A1%2F%3Cscript%3E' in text
    assert "&lt;script&gt;" in text


def test_the_timeline_shows_each_entry_and_an_unknown_accession_is_not_found(web: Web) -> None:
    _, _, body = web.ask("/trace?accession=A1")
    assert body.count(b"<tr>") == 3
    assert b"2001-09-09 01:46:40Z" in body
    code, _, body = web.ask(f"/trace?accession={HOSTILE.replace('<', '%3C').replace('&', '%26')}")
    assert code == 404
    assert b"nothing is known" in body
    assert SPOKEN not in body


def test_the_api_gives_the_same_figures(web: Web) -> None:
    code, status = web.json("/api/status")
    assert code == 200
    assert status["listeners"][0]["received"] == {"ORM^O01": 12, HOSTILE: 1}
    assert status["destinations"][1]["up"] is None
    assert status["exams"]["scheduled"] == 4


def test_the_api_traces_an_accession_with_any_characters(web: Web) -> None:
    code, trace = web.json("/api/trace/A%2F2%20%C3%BC")
    assert (code, trace["accession"], len(trace["entries"])) == (200, "A/2 ü", 2)
    assert web.json("/api/trace/none") == (404, {"accession": "none", "entries": []})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", MessageFilter()),
        ("?state=parked&kind=ORM%5EO01&limit=7", MessageFilter(state="parked", kind="ORM^O01", limit=7)),
        ("?listener=%20hospital%20&accession=A1", MessageFilter(listener="hospital", accession="A1")),
        ("?since=1000000000.5", MessageFilter(since=1000000000.5)),
        ("?since=2001-09-09T01:46:40Z", MessageFilter(since=1e9)),
        ("?since=2001-09-09T03:46:40%2B02:00", MessageFilter(since=1e9)),
        ("?since=2001-09-09T01:46:40", MessageFilter(since=1e9)),
    ],
)
def test_messages_are_filtered_by_the_query(web: Web, query: str, expected: MessageFilter) -> None:
    code, found = web.json(f"/api/messages{query}")
    assert (code, found["messages"][0]["id"]) == (200, 5)
    assert web.status.filters == expected


@pytest.mark.parametrize(
    "query",
    [
        "?patient=DOE",
        "?limit=0",
        "?limit=-1",
        "?limit=1001",
        "?limit=x",
        "?limit=%C2%B2",
        "?since=soon",
        "?since=nan",
        "?limit=" + "9" * 5000,
    ],
)
@pytest.mark.parametrize("page", ["/api/messages", "/messages"])
def test_a_query_that_is_no_filter_is_refused_with_the_reason(web: Web, query: str, page: str) -> None:
    code, headers, body = web.ask(page + query)
    assert code == 400
    assert headers["Content-Type"].startswith("text/plain")
    assert b"limit" in body or b"since" in body


def test_ready_only_when_the_store_is_open_and_every_listener_bound(web: Web) -> None:
    assert web.json("/readyz") == (200, {"ready": True, "missing": []})
    web.status.readiness = Readiness(store=False, listeners={"hospital": True, "modalities": False}, draining=True)
    code, said = web.json("/readyz")
    assert code == 503
    assert said == {"ready": False, "missing": ["store is not open", "broker is stopping", "listener modalities is not bound"]}
    assert web.ask("/healthz")[0] == 200


def test_gauges_are_fresh_in_the_metrics(web: Web) -> None:
    _, headers, body = web.ask("/metrics")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'broker_queue_depth{destination="archive"} 3.0' in body
    assert b"broker_store_up 1.0" in body


def test_metrics_are_there_when_the_store_is_gone_and_say_so(web: Web) -> None:
    web.metrics.commits.inc()
    web.refreshing = StoreError("disk full")
    code, _, body = web.ask("/metrics")
    assert code == 200
    assert b"broker_store_up 0.0" in body
    assert b"broker_store_commits_total 1.0" in body
    assert json.loads(web.logged.getvalue())["reason"] == "disk full"


@pytest.mark.parametrize("path", ["/", "/api/status"])
def test_a_page_that_fails_says_nothing_of_why_but_the_log_says_where(web: Web, path: str) -> None:
    web.status.failing = KeyError("DOE^JANE")
    code, headers, body = web.ask(path)
    assert (code, body) == (500, b"the page failed; the log says where\n")
    assert headers.items() >= SECURITY_HEADERS.items()
    assert json.loads(web.logged.getvalue())["type"] == "KeyError"
    assert "DOE" not in web.logged.getvalue()


def test_an_answer_is_written_when_the_engine_has_answered(web: Web) -> None:
    web.status.waiting = Deferred()
    _, transport = web.connect(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
    assert transport.value() == b""
    web.status.waiting.callback(Overview("s", "1", 0.0, 0.0))
    assert transport.value().startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_asker_that_goes_away_cancels_the_question_quietly(web: Web) -> None:
    web.status.waiting = waiting = Deferred()
    cancelled: list[Failure] = []
    waiting.addErrback(lambda failure: cancelled.append(failure) or failure)  # type: ignore[func-returns-value]
    channel, transport = web.connect(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
    channel.connectionLost(Failure(ConnectionDone()))
    assert len(cancelled) == 1
    assert transport.value() == b""
    assert web.logged.getvalue() == ""


def test_an_answer_that_comes_too_late_is_dropped(web: Web) -> None:
    web.status.waiting = waiting = Deferred()
    waiting.addErrback(lambda _: Overview("s", "1", 0.0, 0.0))
    channel, transport = web.connect(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
    channel.connectionLost(Failure(ConnectionDone()))
    assert transport.value() == b""
    assert web.logged.getvalue() == ""


def test_a_body_that_grows_closes_the_connection(web: Web) -> None:
    channel, transport = web.connect(b"POST /api/status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(3):
        channel.dataReceived(b"x" * 2048)
    assert transport.disconnecting


def test_on_loopback_only_loopback_names_are_served() -> None:
    web = Web(hosts=LOOPBACK)
    assert web.ask("/", host="127.0.0.1:8080")[0] == 200
    assert web.ask("/", host="LOCALHOST")[0] == 200
    assert web.ask("/", host="evil.example")[0] == 421
    assert Web().ask("/", host="broker:8080")[0] == 200


AGAIN = b"POST /api/messages/again/5 HTTP/1.1\r\nHost: x\r\nX-Broker-Action: yes\r\n\r\n"


def test_what_was_begun_is_brought_to_its_end_when_the_asker_goes() -> None:
    web = Web()
    channel, _ = web.connect(AGAIN)
    channel.connectionLost(Failure(ConnectionDone()))
    web.status.acting.callback(None)
    assert web.status.done == [5]
    assert web.logged.getvalue() == ""


def test_an_action_the_store_does_not_take_says_so() -> None:
    web = Web()
    web.status.failing = StoreError("the store is closed")
    _, transport = web.connect(AGAIN)
    assert transport.value().startswith(b"HTTP/1.1 503")
    assert b"the store is closed" in transport.value()


def test_a_state_that_no_message_has_is_a_bad_request(web: Web) -> None:
    for path in ("/messages?state=lost", "/api/messages?state=lost"):
        code, _, body = web.ask(path)
        assert code == 400
        assert b"there is no such state; there are received, routed" in body
