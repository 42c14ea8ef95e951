"""One configuration fed with messages that came long ago: the real intake, router and RIS over a store in memory; nothing leaves it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.config.models import Config
from broker.dicom.dataset import decode
from broker.dicom.scan import scan
from broker.dicom.storerequest import decode_request
from broker.engine.clock import SiteClock
from broker.engine.hl7intake import Manner, repeats
from broker.engine.intake import Accepted, Intake, Verdict
from broker.engine.replies import code_of
from broker.engine.rules import rules_of
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.model import Delivery, Journaled, Received
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.pipeline.context import AnySubject
from broker.pipeline.header import Header
from broker.ris.context import PROCEDURE_FORMAT, STEP_FORMAT
from broker.store import history, journal
from broker.store.database import Database, Transaction, open_database
from broker.store.history import Made
from broker.store.records import RecordStore

T = TypeVar("T")
Read = Callable[[], AnySubject]


@dataclass(slots=True)
class Happened:
    """What became of one message."""

    state: str
    code: str = ""  # of the answer, where it is an HL7 one
    reason: str = ""  # free of patient data
    sent: list[Delivery] = field(default_factory=list)


class _Held(NamedTuple):
    """An object that waits for its exam."""

    message_id: int  # in the journal it came from
    received: Received
    read: Read


class Shadow:
    """A broker without sockets, clock or disk; UIDs and times are those of the messages, so that two of them make the same."""

    def __init__(self, config: Config, spool: Path, keywords: tuple[str, ...] = ()) -> None:
        """`spool`: the folder of stored objects, only read; `keywords`: what else is read of their headers. Raises ConfigError."""
        self._accession, self._spool, self.at = config.site.accession, spool, 0.0
        self._calls: deque[Callable[[], object]] = deque()
        self._uids: deque[str] = deque()
        self._made = 0
        self._sent: list[Delivery] = []
        self._held: dict[int, _Held] = {}
        self.states: dict[int, str] = {}  # message -> what became of it in the end
        self._metrics = Metrics()
        self._db: Database = open_database(
            ":memory:",
            metrics=self._metrics,
            call_later=lambda _, call: self._calls.append(call),
            call_from_thread=lambda call, *args: call(*args),
        )
        self._clock = SiteClock(lambda: self.at, config.site.timezone)
        self._rules = rules_of(config, self._new_uid)
        self._keywords = tuple(dict.fromkeys((*self._rules.keywords, *keywords)))
        log = Log(StringIO(), terminal=False)
        rules = self._rules
        self._intake = Intake(self._db, rules.router, rules.site, self._clock, self._metrics, log, self._sent.extend, rules.unmatched)
        self._intake.on_resolved = self._release

    @property
    def keywords(self) -> tuple[str, ...]:
        """What is read of an object's header."""
        return self._keywords

    def become(self, config: Config) -> None:
        """Go on with another configuration, as a running broker does when it is applied. Raises ConfigError."""
        before, self._rules = self._rules, rules_of(config, self._new_uid)
        self._intake.change(self._rules.router, self._rules.site, self._rules.unmatched)
        self._clock.move(config.site.timezone)
        before.site.calls.close()

    def take(self, row: Journaled, made: Made | None) -> Happened:
        """Take in a message, giving its orders the identifiers they were given then; raises OSError for an object that is gone."""
        self.at = row.received_at
        self._uids.clear()
        received, read = self._read(row)
        if made is not None:
            self._uids.extend(made.studies)
            self._db.run("replay.numbers", self._count, made).addErrback(lambda failure: failure.trap(MessageError))
        self._sent.clear()
        accepted = self._wait(self._intake.take(received, read, _answer, repeats=_repeats))
        verdict = accepted.verdict or Verdict("routed")
        self.states[row.id] = verdict.state
        if verdict.state == "parked" and received.spooled is not None:
            self._held[accepted.message_id] = _Held(row.id, received, read)
        return Happened(verdict.state, code_of(verdict) if row.protocol == "hl7" else "", verdict.reason, list(self._sent))

    def records(self, kind: type[T]) -> list[T]:
        """Return what the RIS holds of one kind."""

        def find(tx: Transaction) -> list[T]:
            return RecordStore(tx).find(kind)

        return self._wait(self._db.read("replay.records", find))

    def close(self) -> None:
        """Let everything go."""
        self._rules.site.calls.close()
        self._wait(self._db.close())

    def _read(self, row: Journaled) -> tuple[Received, Read]:
        """Return what arrived, and what reads it."""
        if row.protocol == "hl7":
            manner = self._rules.manners.get(row.listener, Manner())
            return _received(row), lambda: Message.parse(row.raw, manner.default, manner.fallback)
        if row.kind != "C-STORE":
            return _received(row), lambda: _performed(row)
        spooled = decode_request(row.raw).spooled
        path = self._spool / spooled.name
        path.stat()
        return _received(row, spooled), lambda: Header(scan(path, self._keywords), kind=row.kind, sender=row.sender, uid=row.control_id)

    def _release(self, exam_id: int) -> None:
        self._db.read("journal.held", journal.held, exam_id).addCallback(self._route_again)

    def _route_again(self, ids: list[int]) -> None:
        for id in ids:
            held = self._held.pop(id, None)
            if held is not None:
                reading = self._db.read("journal.get", journal.get, id).addCallback(self._intake.again, held.received, held.read)
                reading.addCallbacks(self._routed, lambda failure: failure.trap(MessageError), (held.message_id,))

    def _routed(self, accepted: Accepted, message_id: int) -> None:
        if accepted.verdict is not None:
            self.states[message_id] = accepted.verdict.state

    def _count(self, tx: Transaction, made: Made) -> None:
        """Let the RIS give the numbers that it gave then."""
        for sequence, form, texts in (
            ("accession", self._accession, made.accessions),
            ("requested_procedure", PROCEDURE_FORMAT, made.procedures),
            ("step", STEP_FORMAT, made.steps),
        ):
            numbers = [number for text in texts if (number := number_in(form, text)) is not None]
            if numbers:
                history.count_from(tx, sequence, numbers[0])

    def _new_uid(self) -> str:
        if self._uids:
            return self._uids.popleft()
        self._made += 1
        return str(generate_uid(entropy_srcs=["replay", str(self._made)]))

    def _wait(self, waiting: Deferred[T]) -> T:
        found: list[Any] = []
        waiting.addBoth(found.append)
        while self._calls:
            self._calls.popleft()()
        if isinstance(found[0], Failure):
            found[0].raiseException()
        result: T = found[0]
        return result


def number_in(form: str, text: str) -> int | None:
    """Return the number that a format such as `A{number:08d}` was filled with, None when it was not."""
    head, _, rest = form.partition("{")
    tail = rest.partition("}")[2]
    found = re.fullmatch(rf"{re.escape(head)}0*(\d+){re.escape(tail)}", text)
    return int(found[1]) if found and form.format(number=int(found[1])) == text else None


def _received(row: Journaled, spooled: Any = None) -> Received:
    protocol: Any = row.protocol
    return Received(row.listener, protocol, row.kind, row.sender, row.peer, row.control_id, row.raw, row.digest, spooled)


def _performed(row: Journaled) -> Header:
    return Header({}, decode(row.raw, ExplicitVRLittleEndian), kind=row.kind, sender=row.sender, uid=row.control_id)


def _answer(message_id: int, verdict: Verdict) -> bytes:
    return code_of(verdict).encode()


def _repeats(prior: Journaled, received: Received) -> bytes | None:
    """What was journaled was no retransmission; of HL7, the same control id with other content is an error whatever is configured."""
    if received.protocol == "hl7":
        repeats(prior, received)
    return None
