"""Objects and requests from a DICOM listener: read, taken in, answered with a DIMSE status."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet.defer import Deferred

from broker.connectors.base import Caller
from broker.dicom.dataset import decode, encode
from broker.dicom.dimse import Status
from broker.dicom.scan import scan
from broker.dicom.storerequest import decode_request, encode_request
from broker.engine import worklist
from broker.engine.clock import SiteClock
from broker.engine.intake import Accepted, Intake, Verdict, digest
from broker.errors import MessageError, StoreError
from broker.model import Journaled, Received, Spooled, StoreRequest
from broker.obs.metrics import Metrics
from broker.pipeline.header import Header
from broker.ris.worklist import WorklistQuery
from broker.store import audit
from broker.store.database import Database, Transaction
from broker.store.records import RecordStore
from broker.store.spool import Spool

REMEMBERED = 10_000  # worklist entries whose first showing at a station is on the timeline already

# what the RIS says is wrong with an MPPS, as DIMSE status (PS3.7 C.5); all else is a processing failure
_STATUS = {
    205: Status.DUPLICATE_INSTANCE,
    204: Status.NO_SUCH_OBJECT,
    101: Status.MISSING_ATTRIBUTE,
    102: Status.INVALID_ATTRIBUTE_VALUE,
    103: Status.INVALID_ATTRIBUTE_VALUE,
}


class Dicom:
    """The DICOM side of the intake (`connectors.base.DicomIntake`)."""

    def __init__(self, intake: Intake, db: Database, clock: SiteClock, spool: Spool, metrics: Metrics, keywords: Iterable[str]) -> None:
        self._intake, self._db, self._clock, self._spool, self._metrics = intake, db, clock, spool, metrics
        self.keywords = tuple(keywords)
        self._shown: OrderedDict[tuple[str, str], None] = OrderedDict()

    def receive_instance(self, caller: Caller, spooled: Spooled) -> Deferred[int]:
        """C-STORE: success once the object is journaled, whatever its channels made of it: it is kept."""
        request = encode_request(StoreRequest(spooled))
        received = Received(
            caller.listener, "dicom", "C-STORE", caller.ae_title, caller.peer, spooled.sop_instance, request, spooled.digest, spooled
        )
        taking = self._intake.take(received, self._header(received, spooled), status_answer(stored_status), repeats=_same)
        return taking.addCallback(self._stored, caller, spooled)

    def receive_performed(self, caller: Caller, create: bool, uid: str, attributes: Dataset) -> Deferred[int]:
        """MPPS N-CREATE or N-SET: what names no known exam is kept and listed, what breaks the rules is refused."""
        raw = encode(attributes, ExplicitVRLittleEndian)
        kind = "N-CREATE" if create else "N-SET"
        received = Received(caller.listener, "dicom", kind, caller.ae_title, caller.peer, uid, raw, digest(kind.encode() + raw))
        taking = self._intake.take(received, lambda: _performed(received), status_answer(performed_status), repeats=_same)
        return taking.addCallback(self._answered, caller)

    def find_worklist(self, caller: Caller, identifier: Dataset) -> Deferred[list[Dataset]]:
        """C-FIND Modality Worklist, answered from the RIS state; that an accession was shown is on its timeline."""
        query = worklist.query(identifier)
        finding = self._db.read("ris.worklist", _entries, query)
        return finding.addCallback(self._found, caller, identifier)

    def again(self, row: Journaled) -> Deferred[Accepted]:
        """Route a parked object or request once more; raises MessageError when it cannot be read."""
        spooled = decode_request(row.raw).spooled if row.kind == "C-STORE" else None
        received = Received(row.listener, "dicom", row.kind, row.sender, row.peer, row.control_id, row.raw, row.digest, spooled)
        read = self._header(received, spooled) if spooled else lambda: _performed(received)
        return self._intake.again(row, received, read)

    def _header(self, received: Received, spooled: Spooled) -> Callable[[], Header]:
        try:
            values = scan(self._spool.path(spooled.name), self.keywords)
        except MessageError as error:
            return _raiser(error)
        except OSError as error:
            raise StoreError(f"the object cannot be read from the spool: {type(error).__name__}") from error
        return lambda: Header(values, kind=received.kind, sender=received.sender, uid=spooled.sop_instance)

    def _stored(self, accepted: Accepted, caller: Caller, spooled: Spooled) -> int:
        if accepted.verdict is None or accepted.verdict.state == "refused":
            self._spool.remove(spooled.name)  # the same object came before, and is kept under its first name; or it is the sender's again
        else:
            self._metrics.objects.labels(caller.listener).inc()
            self._metrics.object_bytes.labels(caller.listener).inc(spooled.size)
        return self._answered(accepted, caller)

    def _answered(self, accepted: Accepted, caller: Caller) -> int:
        status = int(accepted.answer, 16)
        self._metrics.acknowledged.labels(caller.listener, f"0x{status:04X}").inc()
        return status

    def _found(self, found: list[worklist.Attributes], caller: Caller, identifier: Dataset) -> list[Dataset]:
        self._metrics.received.labels(caller.listener, "C-FIND").inc()
        accessions = [attributes["AccessionNumber"] for attributes in found]
        fresh = [accession for accession in accessions if self._is_first_showing(accession, caller.ae_title)]
        if fresh:
            self._db.run("audit.worklist", _note_shown, tuple(dict.fromkeys(fresh)), caller.ae_title, self._clock()).addErrback(
                lambda _: None
            )
        return [worklist.entry(attributes, identifier) for attributes in found]

    def _is_first_showing(self, accession: str, ae_title: str) -> bool:
        key = (accession, ae_title)
        if key in self._shown:
            return False
        self._shown[key] = None
        if len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)
        return True


def _entries(tx: Transaction, wanted: WorklistQuery) -> list[worklist.Attributes]:
    return worklist.find(RecordStore(tx), wanted)


def _note_shown(tx: Transaction, accessions: tuple[str, ...], ae_title: str, at: float) -> None:
    for accession in accessions:
        audit.note(tx, accession, at, "worklist", "C-FIND", "ris", ae_title, None, "")


def status_answer(status_of: Callable[[Verdict], int]) -> Callable[[int, Verdict], bytes]:
    """Return what makes the stored answer of a verdict: its DIMSE status, as "0x0000"."""
    return lambda message_id, verdict: f"0x{status_of(verdict):04X}".encode()


def stored_status(verdict: Verdict) -> int:
    """C-STORE: what was kept is a success, also when it waits for a person."""
    return Status.NOT_AUTHORISED if verdict.state == "refused" else Status.SUCCESS


def performed_status(verdict: Verdict) -> int:
    """MPPS: what the RIS refused is a failure with its reason."""
    if verdict.error is None:
        return Status.SUCCESS
    return _STATUS.get(verdict.error.code, Status.PROCESSING_FAILURE)


def _same(prior: Journaled, received: Received) -> bytes | None:
    """The same UID with other content is another version of the object, and what failed may fit by now: both are like new."""
    repeated = prior.digest == received.digest and prior.kind == received.kind and int(prior.answer, 16) == Status.SUCCESS
    return prior.answer if repeated else None


def _performed(received: Received) -> Header:
    dataset = decode(received.raw, ExplicitVRLittleEndian)
    return Header({}, dataset, kind=received.kind, sender=received.sender, uid=received.control_id)


def _raiser(error: MessageError) -> Callable[[], Header]:
    def read() -> Header:
        raise error

    return read
