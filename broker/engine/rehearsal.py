"""Runs the cases of a route through the whole configuration: intake, router and RIS over a store in memory, no socket, no delivery."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from broker.config.models import RIS, Config
from broker.dicom.dataset import dataset_of, read_header, texts_of
from broker.dicom.storerequest import encode_request
from broker.engine import performedsteps
from broker.engine.dicomintake import status_answer, stored_status
from broker.engine.hl7intake import Manner
from broker.engine.intake import Accepted, Verdict, digest
from broker.engine.passage import Passage
from broker.engine.replies import code_of
from broker.engine.router import Routed
from broker.engine.stage import Stage
from broker.errors import MessageError
from broker.hl7.message import Message
from broker.hl7.path import parse
from broker.model import Outgoing, Received, Spooled, StoreRequest
from broker.pipeline.cases import Case, Given, Happened
from broker.pipeline.context import AnySubject
from broker.pipeline.header import Header
from broker.pipeline.recorded import Recorded
from broker.pipeline.subject import EventSubject
from broker.ris.entities import Charge, Exam, Patient
from broker.ris.events import Event
from broker.ris.view import view
from broker.store.database import Transaction
from broker.store.records import RecordStore

Answer = Callable[[int, Verdict], bytes]
Arriving = tuple[Received, AnySubject, Answer]  # one thing as it arrives, as the routes see it, and what makes its answer
_SUBJECT = 1  # the message that a RIS event is said to come from


class Rehearsal:
    """A broker without sockets for one case.

    `begin` is called when what came before is over, and the message itself is about to come.
    """

    def __init__(self, config: Config, begin: Callable[[], object] = lambda: None) -> None:
        self._config, self._begin = config, begin
        self._stage = Stage(config)

    def run(self, case: Case, listener: str, folder: Path) -> Happened:
        """Return what became of the case's message. `listener`: of the channel under test; `folder`: of channels.yaml, where samples are.

        Raises OSError when a sample cannot be read, MessageError when it is no HL7 or DICOM.
        """
        try:
            return self._run(case, listener, folder)
        finally:
            self._stage.close()

    def _run(self, case: Case, listener: str, folder: Path) -> Happened:
        stage = self._stage
        event = stage.wait(stage.db.run("case.state", _write, case.state, case.given.event)) if case.state else None
        for number, given in enumerate(case.before):
            self._take(self._arrive(given, self._sources(given, listener), folder, {}, number))
        stage.sent.clear()
        if event is not None and case.given.kind == "event":
            self._begin()
            return self._tell(event)
        sources = self._sources(case.given, listener)
        own = [listener] if listener in sources else sources  # a listener under test may be expected to refuse it
        arriving = self._arrive(case.given, own, folder, case.changes, len(case.before))
        self._begin()
        return self._happened(self._take(arriving))

    def _sources(self, given: Given, usual: str) -> list[str]:
        """Return the listeners that a message of this kind may come by, the one under test first."""
        protocol = "hl7" if given.kind == "hl7" else "dicom"
        sources = dict.fromkeys(channel.source for channel in self._config.channels if channel.protocol == protocol)
        return sorted(sources, key=lambda source: source != usual) or [usual]

    def _arrive(self, given: Given, listeners: Sequence[str], folder: Path, changes: Mapping[str, str], number: int) -> Arriving:
        """Return the message as it comes by the first of these listeners that has a channel for it, else by the first of all."""
        read = (_arriving(given, listener, folder, changes, number, self._stage.manners.get(listener, Manner())) for listener in listeners)
        first = next(read)
        return next((one for one in (first, *read) if self._is_wanted(one[0].listener, one[1])), first)

    def _is_wanted(self, listener: str, subject: AnySubject) -> bool:
        return any(channel.source == listener and channel.route.accepts(subject) for channel in self._config.channels)

    def _take(self, arriving: Arriving) -> Accepted:
        received, subject, answer = arriving
        return self._stage.wait(self._stage.intake.take(received, lambda: subject, answer, repeats=lambda prior, again: None))

    def _tell(self, event: Event) -> Happened:
        """Let the channels that hear of the RIS hear of an event."""
        stage = self._stage
        told = tell(stage, event)
        seen = stage.wait(stage.db.read("case.view", _view_of_event, event))
        if isinstance(told, MessageError):
            return Happened(error_at=told.path, error_says=told.why, message="parked", view=seen)
        return Happened(
            dropped=told.reason if told.dropped else "",
            message="dropped" if told.dropped and len(told.dropped) == len(told.channels) else "routed",
            view=seen,
            sent=told.outgoing,
            channels=tuple(told.channels),
        )

    def _happened(self, accepted: Accepted) -> Happened:
        stage, verdict = self._stage, accepted.verdict
        assert verdict is not None  # nothing is a retransmission here
        error = verdict.error
        outgoing = [Outgoing(d.destination, d.lane, d.channel, d.kind, d.payload, d.control_id, d.accession) for d in stage.sent]
        return Happened(
            answer=accepted.answer.decode(),
            error_at=error.path if error else "",
            error_says=error.why if error else "",
            dropped=verdict.reason if verdict.dropped else "",
            held=verdict.reason if verdict.state == "parked" and error is None else "",
            message=verdict.state,
            view=stage.wait(stage.db.read("case.view", _view_of_exam, verdict.accession)),
            sent=outgoing,
            channels=verdict.channels,
        )


def tell(stage: Stage, event: Event) -> Routed | MessageError:
    """Run an event of the RIS through the channels that hear of them; return what they did, or what went wrong."""

    def run(tx: Transaction) -> Routed | MessageError:
        passage = Passage(tx, lambda: None, stage.site, _SUBJECT, stage.time.text(), stage.time())
        passage.records.find(Patient, id=0)  # the forks share what it opens
        context = passage.of(event)
        try:
            return stage.router.route(RIS, EventSubject(context.view()), context) or Routed()
        except MessageError as error:
            return error

    return stage.wait(stage.db.run("case.event", run))


def _arriving(given: Given, listener: str, folder: Path, changes: Mapping[str, str], number: int, manner: Manner) -> Arriving:
    """Return what arrives by a listener; raises OSError, MessageError."""
    if given.kind == "hl7":
        message = Message.parse(normal_ends(given.raw or (folder / given.file).read_bytes()), manner.default, manner.fallback)
        for path, text in changes.items():
            write(message, path, text)
        raw = message.encode()
        received = Received(listener, "hl7", message.type, message.sender, "", f"{message.control_id}/{number}", raw, digest(raw))
        return received, message, lambda _, verdict: code_of(verdict).encode()
    values = {**(_attributes_of(folder / given.file) if given.file else {}), **given.attributes, **changes}
    if given.kind == "image":
        spooled = _spooled(values, number)
        raw = encode_request(StoreRequest(spooled))
        received = Received(listener, "dicom", "C-STORE", given.sender, "", spooled.sop_instance, raw, spooled.digest, spooled)
        header = Header(values, kind="C-STORE", sender=given.sender, uid=spooled.sop_instance)
        return received, header, status_answer(stored_status)
    kind = "N-CREATE" if given.create else "N-SET"
    received = Received(listener, "dicom", kind, given.sender, "", given.uid, b"", str(number))
    header = Header({}, dataset_of(values), kind=kind, sender=given.sender, uid=given.uid)
    return received, header, status_answer(performedsteps.status_of)


def write(message: Message, path: str, text: str) -> None:
    r"""Write what a person has written for a path: plain text into a component, a composite (`DOE^JANE`) into a whole field.

    Raises MessageError for a character the message's set does not have, or a path that cannot be written.
    """
    try:
        if path == "MSH-18" or parse(path).component:
            message.set(path, text)
        else:
            message.set_raw(path, text)
    except ValueError as error:
        raise MessageError(path, str(error), 102) from error


def normal_ends(raw: bytes) -> bytes:
    """Return a message as it was kept in a text file with the line ends of the standard, without a frame around it."""
    return raw.strip(b"\x0b\x1c\r\n").replace(b"\r\n", b"\r").replace(b"\n", b"\r") + b"\r"


def _attributes_of(file: Path) -> dict[str, str]:
    """Return the attributes of a DICOM file by keyword, dotted into the first items of sequences; raises OSError, MessageError."""
    header, _ = read_header(file)
    return texts_of(header)


def _spooled(values: Mapping[str, str], number: int) -> Spooled:
    """Return what the spool would say of the object; its attributes make the digest, as the content does."""
    content = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()
    instance = values.get("SOPInstanceUID") or f"1.2.3.{number + 1}"
    return Spooled(f"case/{number}", values.get("SOPClassUID", ""), instance, "1.2.840.10008.1.2.1", 1, content)


def _write(tx: Transaction, state: Recorded, event: str) -> Event:
    return state.write(RecordStore(tx), event)


def _view_of_event(tx: Transaction, event: Event) -> dict[str, Any]:
    """Return what the RIS knows around an event."""
    return view(RecordStore(tx), event, 0)


def _view_of_exam(tx: Transaction, accession: str) -> dict[str, Any]:
    """Return the view of the exam the message was about, else of the last one, else of the last patient."""
    records = RecordStore(tx)
    exams = (records.find(Exam, accession=accession) if accession else []) or records.find(Exam)
    if exams:
        exam = exams[-1]
        charge = records.one(Charge, exam_id=exam.id)
        event = Event("case", patient_id=exam.patient_id, order_id=exam.order_id, exam_id=exam.id, charge_id=charge.id if charge else None)
        return view(records, event, 0)
    patients = records.find(Patient)
    return view(records, Event("case", patient_id=patients[-1].id), 0) if patients else {}
