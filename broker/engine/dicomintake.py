"""Objects and requests from a DICOM listener: read, taken in, answered with a DIMSE status."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from broker.connectors.base import Caller, Defer, Early, PerformedAnswer, WorklistTerms
from broker.connectors.dicom_retrieval import Progress, Retrieved, Return, Searched, Send, Task
from broker.dicom import dosereport
from broker.dicom.dataset import encode
from broker.dicom.dimse import Status
from broker.dicom.query import Query, Retrieval
from broker.dicom.scan import scan, scan_header
from broker.dicom.storerequest import decode_request, encode_request
from broker.engine import performedsteps, worklist
from broker.engine.clock import SiteClock
from broker.engine.completion import Completion
from broker.engine.expected import Expected
from broker.engine.intake import Accepted, Intake, Verdict, digest
from broker.engine.room import Level, Room
from broker.errors import MessageError, StoreError
from broker.model import Journaled, Received, Spooled, StoreRequest
from broker.obs.metrics import Metrics
from broker.pipeline.header import Header
from broker.store import audit
from broker.store.database import Database, Transaction
from broker.store.spool import Spool

REMEMBERED = 10_000  # worklist entries whose first showing at a station is on the timeline already


Dose = tuple[tuple[dosereport.Reading, ...], str]  # what a dose report says, and why it is not taken
_NO_DOSE: Dose = ((), "")


class Dicom:
    """The DICOM side of the intake (`connectors.base.DicomIntake`)."""

    # of other parts of the engine, set by who composes them
    completion: Completion | None = None
    receive_availability: Callable[[Caller, str, Dataset], Deferred[int]]
    request_commitment: Callable[[Caller, Dataset], Deferred[int]]
    report_commitment: Callable[[Caller, Dataset], Deferred[int]]
    search: Callable[[Caller, Query, Task, Send], Deferred[Searched]]
    move: Callable[[Caller, Retrieval, str, Task, Progress], Deferred[Retrieved]]
    get: Callable[[Caller, Retrieval, Task, Progress, Return], Deferred[Retrieved]]

    def __init__(
        self,
        intake: Intake,
        db: Database,
        clock: SiteClock,
        spool: Spool,
        metrics: Metrics,
        keywords: Iterable[str],
        room: Room | None = None,
        in_thread: Defer = maybeDeferred,
    ) -> None:
        """`room` says whose objects get in when the spool is nearly full; without it, everybody's. `in_thread`: where files are read."""
        self._intake, self._db, self._clock, self._spool, self._metrics, self._room = intake, db, clock, spool, metrics, room
        self._in_thread = in_thread
        self.keywords = tuple(keywords)
        self.expected = Expected(spool)
        self._asked = worklist.reader()
        self._shown: OrderedDict[tuple[str, str], None] = OrderedDict()

    def receive_instance(self, caller: Caller, spooled: Spooled, header: bytes = b"", early: Early = None) -> Deferred[int]:
        """C-STORE: success once the object is journaled, whatever its channels made of it: it is kept."""
        if (passed_on := self.expected.take(caller, spooled)) is not None:
            return passed_on
        if self._room is None or self._room.level < Level.HIGH:
            return self._take(caller, spooled, header, early)
        try:
            found = scan(self._spool.path(spooled.name), ("StudyInstanceUID", "AccessionNumber"))
        except MessageError:
            found = {}
        admitting = self._room.admits(caller.ae_title, found.get("StudyInstanceUID", ""), found.get("AccessionNumber", ""))
        return admitting.addCallback(lambda admitted: self._take(caller, spooled) if admitted else self._turned_away(caller, spooled))

    def _turned_away(self, caller: Caller, spooled: Spooled) -> int:
        self._spool.remove(spooled.name)
        status = int(Status.OUT_OF_RESOURCES)
        self._metrics.acknowledged.labels(caller.listener, f"0x{status:04X}").inc()
        return status

    def _take(self, caller: Caller, spooled: Spooled, header: bytes = b"", early: Early = None) -> Deferred[int]:
        request = encode_request(StoreRequest(spooled))
        received = Received(
            caller.listener, "dicom", "C-STORE", caller.ae_title, caller.peer, spooled.sop_instance, request, spooled.digest, spooled
        )
        if spooled.sop_class not in dosereport.SOP_CLASSES:
            return self._accept(caller, received, spooled, _NO_DOSE, header, early)
        return self._dose(spooled).addCallback(lambda dose: self._accept(caller, received, spooled, dose))

    def _accept(
        self, caller: Caller, received: Received, spooled: Spooled, dose: Dose, header: bytes = b"", early: Early = None
    ) -> Deferred[int]:
        read = self._header(received, spooled, dose, header, came=True)
        taking = self._intake.take(received, read, status_answer(stored_status), repeats=_same, told=early is not None)
        if early is not None:
            early()
        return taking.addCallback(self._stored, caller, spooled)

    def _dose(self, spooled: Spooled) -> Deferred[Dose]:
        """Fire with what a dose report says, or why it is not taken; of another object with nothing."""
        if spooled.sop_class not in dosereport.SOP_CLASSES:
            return succeed(_NO_DOSE)
        reading = self._in_thread(dosereport.read_report, self._spool.path(spooled.name))
        return reading.addCallbacks(lambda readings: (readings, ""), _dose_fault)

    def receive_performed(self, caller: Caller, create: bool, uid: str, attributes: Dataset, raw: bytes = b"") -> Deferred[PerformedAnswer]:
        """MPPS N-CREATE or N-SET: what names no known exam is kept and listed, what breaks the rules is refused."""
        raw = raw or encode(attributes, ExplicitVRLittleEndian)
        kind = "N-CREATE" if create else "N-SET"
        received = Received(caller.listener, "dicom", kind, caller.ae_title, caller.peer, uid, raw, digest(kind.encode() + raw))
        answer = status_answer(performedsteps.status_of)
        taking = self._intake.take(received, lambda: performedsteps.header_of(received), answer, repeats=_same)
        return taking.addCallback(lambda accepted: performedsteps.answer_of(self._answered(accepted, caller), accepted.verdict))

    def get_performed(self, caller: Caller, uid: str, tags: tuple[int, ...], syntax: str) -> Deferred[PerformedAnswer]:
        """MPPS N-GET, answered from what the N-CREATE and the N-SETs have left."""
        self._metrics.received.labels(caller.listener, "N-GET").inc()
        return self._db.read("ris.performed", performedsteps.get, uid, tags, syntax)

    def find_worklist(self, caller: Caller, identifier: bytes, syntax: str, terms: WorklistTerms) -> worklist.Search:
        """C-FIND Modality Worklist, answered from the RIS state; that an accession was shown is on its timeline."""
        asked = self._asked(identifier, syntax, terms.charset, terms.unencodable)
        self._metrics.received.labels(caller.listener, "C-FIND").inc()
        wanted = worklist.query(asked.keys, terms, self._clock.text())
        return worklist.Search(self._db, asked, wanted, terms.most, lambda accessions: self._showed(accessions, caller))

    def association_ended(self, caller: Caller, released: bool) -> None:
        """The association of the caller is gone, in order or not."""
        if self.completion is not None:
            (self.completion.released if released else self.completion.lost)(caller.peer)

    def read_again(self, row: Journaled) -> tuple[Received, Callable[[], Header]]:
        """Return an object of the journal as it was received, and what reads it; raises StoreError when the spool has it no more."""
        spooled = decode_request(row.raw).spooled
        received = Received(row.listener, "dicom", row.kind, row.sender, row.peer, row.control_id, row.raw, row.digest, spooled)
        return received, self._header(received, spooled)

    def again(self, row: Journaled) -> Deferred[Accepted]:
        """Route a parked object or request once more; raises MessageError when it cannot be read."""
        spooled = decode_request(row.raw).spooled if row.kind == "C-STORE" else None
        received = Received(row.listener, "dicom", row.kind, row.sender, row.peer, row.control_id, row.raw, row.digest, spooled)
        if spooled is None:
            return self._intake.again(row, received, lambda: performedsteps.header_of(received))
        return self._dose(spooled).addCallback(lambda dose: self._intake.again(row, received, self._header(received, spooled, dose)))

    def _header(
        self, received: Received, spooled: Spooled, dose: Dose = _NO_DOSE, begin: bytes = b"", *, came: bool = False
    ) -> Callable[[], Header]:
        """Return what reads an object; `came`: over an association that is open, whose end is evidence."""
        try:
            values = scan_header(begin, spooled.transfer_syntax, self.keywords) if begin else None
            if values is None:
                values = scan(self._spool.path(spooled.name), self.keywords)
        except MessageError as error:
            return _raiser(error)
        except OSError as error:
            raise StoreError(f"the object cannot be read from the spool: {type(error).__name__}") from error
        if came and self.completion is not None:
            self.completion.stored(received.peer, values.get("StudyInstanceUID", ""))

        def read() -> Header:
            header = Header(values, kind=received.kind, sender=received.sender, uid=spooled.sop_instance)
            header.doses, header.dose_fault = dose
            return header

        return read

    def _stored(self, accepted: Accepted, caller: Caller, spooled: Spooled) -> int:
        if accepted.verdict is None or accepted.verdict.state == "refused":
            self._spool.remove(spooled.name)  # the same object came before, and is kept under its first name; or it is the sender's again
        else:
            self._metrics.objects.labels(caller.listener).inc()
            self._metrics.object_bytes.labels(caller.listener).inc(spooled.size)
            if self._room is not None:
                self._room.taken(spooled.size)
        return self._answered(accepted, caller)

    def _answered(self, accepted: Accepted, caller: Caller) -> int:
        status = int(accepted.answer, 16)
        self._metrics.acknowledged.labels(caller.listener, f"0x{status:04X}").inc()
        return status

    def _showed(self, accessions: list[str], caller: Caller) -> None:
        fresh = [accession for accession in accessions if self._is_first_showing(accession, caller.ae_title)]
        if fresh:
            self._db.run("audit.worklist", _note_shown, tuple(dict.fromkeys(fresh)), caller.ae_title, self._clock()).addErrback(
                lambda _: None
            )

    def _is_first_showing(self, accession: str, ae_title: str) -> bool:
        key = (accession, ae_title)
        if key in self._shown:
            return False
        self._shown[key] = None
        if len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)
        return True


def _dose_fault(failure: Failure) -> Dose:
    failure.trap(MessageError)
    return (), str(failure.value)


def _note_shown(tx: Transaction, accessions: tuple[str, ...], ae_title: str, at: float) -> None:
    for accession in accessions:
        audit.note(tx, accession, at, "worklist", "C-FIND", "ris", ae_title, None, "")


def status_answer(status_of: Callable[[Verdict], int]) -> Callable[[int, Verdict], bytes]:
    """Return what makes the stored answer of a verdict: its DIMSE status, as "0x0000"."""
    return lambda message_id, verdict: f"0x{status_of(verdict):04X}".encode()


def stored_status(verdict: Verdict) -> int:
    """C-STORE: what was kept is a success, also when it waits for a person."""
    return Status.NOT_AUTHORISED if verdict.state == "refused" else Status.SUCCESS


def _same(prior: Journaled, received: Received) -> bytes | None:
    """The same UID with other content is another version of the object, and what failed may fit by now: both are like new.

    So is an object that has left the spool: who sends it again may be the last one who has it.
    """
    here = received.spooled is None or prior.spool
    repeated = here and prior.digest == received.digest and prior.kind == received.kind and int(prior.answer, 16) == Status.SUCCESS
    return prior.answer if repeated else None


def _raiser(error: MessageError) -> Callable[[], Header]:
    def read() -> Header:
        raise error

    return read
