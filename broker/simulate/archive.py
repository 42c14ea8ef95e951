"""The archive: a C-STORE SCP that counts and checks what it receives, and a sink for HL7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import
from pynetdicom.transport import ThreadedAssociationServer
from twisted.internet.defer import Deferred, gatherResults, succeed

from broker.simulate.arrivals import Arrivals
from broker.simulate.dicom import MAXIMUM_PDU, Threads, no_delay
from broker.simulate.images import pixel_digest
from broker.simulate.mllp import MllpSink

SUCCESS, MISMATCH = 0x0000, 0xA900

KEYWORDS = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "AccessionNumber", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "Modality", "InstanceNumber", "SpecificCharacterSet", "StudyDescription",
)  # fmt: skip

Object = tuple[str, dict[str, str]]  # SOP Instance UID, keyword -> text


class ArchiveScp:
    """A C-STORE SCP on pynetdicom.

    status: the DIMSE status of each store, or a function of the SOP Instance UID that returns it.
    received: every object that was taken, with its keywords and "OriginalAttributes" (how many items), "PixelDigest" and "Calling".
    """

    def __init__(
        self,
        reactor: Any,
        ae_title: str = "ARCHIVE",
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        status: int | Callable[[str], int] = SUCCESS,
    ) -> None:
        self.ae_title, self.port, self.status = ae_title, port, status
        self.problems: list[str] = []  # objects that cannot be what they say
        self._reactor, self._host = reactor, host
        self._arrivals: Arrivals[Object] = Arrivals(reactor)
        self._threads = Threads(reactor, 1, f"archive {ae_title}")
        self._server: ThreadedAssociationServer | None = None

    @property
    def received(self) -> list[Object]:
        """Return what was taken, repeated objects too, in the order they came."""
        return self._arrivals.items

    @property
    def distinct(self) -> dict[str, dict[str, str]]:
        """Return what was taken by SOP Instance UID; of repeated objects the last."""
        return dict(self.received)

    def wait_for(self, what: int | Callable[[list[Object]], bool], timeout: float = 30.0) -> Deferred[list[Object]]:
        """Fire when so many objects have come, or a predicate over all of them holds."""
        return self._arrivals.wait_for(what, timeout)

    def start(self) -> Deferred[int]:
        """Bind, and fire with the port; an archive that was stopped binds the same port again."""
        return self._threads.run(self._bind)

    def stop(self) -> Deferred[None]:
        """Abort every association and stop listening."""
        if self._server is None:
            return succeed(None)
        server, self._server = self._server, None
        ended: Deferred[None] = self._threads.run(lambda: _shut(server))
        return ended.addCallback(lambda _: self._threads.stop())

    def _bind(self) -> int:
        ae = AE(self.ae_title)
        ae.maximum_pdu_size = MAXIMUM_PDU
        ae.maximum_associations = 64
        ae.supported_contexts = AllStoragePresentationContexts
        ae.add_supported_context(Verification)
        for context in ae.supported_contexts:
            context.add_transfer_syntax("1.2.840.10008.1.2.4.50")
            context.add_transfer_syntax("1.2.840.10008.1.2.4.90")
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_CONN_OPEN, no_delay)]
        self._server = ae.start_server((self._host, self.port), block=False, evt_handlers=handlers)
        assert self._server is not None
        self.port = int(self._server.server_address[1])
        return self.port

    def _store(self, event: evt.Event) -> int:
        """Check and keep one object; pynetdicom calls this in the association's thread."""
        named = str(getattr(event.request, "AffectedSOPInstanceUID", ""))
        status = self.status(named) if callable(self.status) else self.status
        if status != SUCCESS:
            return status
        image = event.dataset
        if str(image.get("SOPInstanceUID", "")) != named:
            self.problems.append(f"{named} came under another name")
            return MISMATCH
        kept = {keyword: str(image.get(keyword) or "") for keyword in KEYWORDS}
        kept |= {"OriginalAttributes": str(_originals(image)), "PixelDigest": pixel_digest(image)}
        kept |= {"Calling": str(event.assoc.requestor.ae_title).strip()}
        self._reactor.callFromThread(self._arrivals.add, (named, kept))
        return SUCCESS


class Archive:
    """Both sides of an archive: images by C-STORE, patients and orders by HL7."""

    def __init__(self, reactor: Any, *, ae_title: str = "ARCHIVE", dicom_port: int = 0, hl7_port: int = 0, host: str = "127.0.0.1") -> None:
        self.images = ArchiveScp(reactor, ae_title, dicom_port, host=host)
        self.hl7 = MllpSink(reactor, hl7_port, host=host)

    def start(self) -> Deferred[Any]:
        """Bind both."""
        return gatherResults([self.images.start(), self.hl7.start()], consumeErrors=True)

    def stop(self) -> Deferred[Any]:
        """Stop both."""
        return gatherResults([self.images.stop(), self.hl7.stop()], consumeErrors=True)


def _shut(server: ThreadedAssociationServer) -> None:
    for association in server.active_associations:
        association.abort()
    server.shutdown()
    server.server_close()


def _originals(image: Dataset) -> int:
    return len(image.get("OriginalAttributesSequence") or [])
