"""A listener's intake and the settings of tests, for DICOM over any transport."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from broker.connectors.base import Caller, PerformedAnswer, WorklistTerms
from broker.connectors.dicom import DESTINATION, LISTENER, DicomListener
from broker.dicom import dimse
from broker.dicom.answers import charsets_of
from broker.dicom.association import Association
from broker.dicom.charset import write_in
from broker.dicom.dataset import decode, encode
from broker.dicom.dimse import Field
from broker.dicom.happenings import Happening, Message
from broker.dicom.negotiation import Identity, Offer, Request, Window
from broker.dicom.storerequest import encode_request
from broker.model import Delivery, Spooled, StoreRequest
from broker.obs.log import Log
from broker.store.spool import Spool
from tests.dicom.cores import feed, written

_ONE = Window()


class Pages:
    """The answer to a worklist query, one entry a page."""

    def __init__(self, entries: Deferred[list[bytes]], exceeded: bool) -> None:
        self._entries, self._at = entries, 0
        self.exceeded = exceeded

    def page(self) -> Deferred[list[bytes]]:
        self._at += 1
        page: Deferred[list[bytes]] = Deferred()

        def take(entries: list[bytes]) -> list[bytes]:
            page.callback(entries[self._at - 1 : self._at])
            return entries

        self._entries.addCallback(take)
        return page


class Intake:
    """Keeps what came; `status` is the answer, unless `gate` is a Deferred to wait for."""

    def __init__(self) -> None:
        self.stored: list[tuple[Caller, Spooled]] = []
        self.headers: list[bytes] = []
        self.found: list[tuple[Caller, Dataset]] = []
        self.performed: list[tuple[Caller, bool, str, Dataset]] = []
        self.status = 0
        self.entries: list[Dataset] = []
        self.exceeded = False
        self.terms: list[WorklistTerms] = []
        self.available: list[tuple[Caller, str, Dataset]] = []
        self.ended: list[tuple[str, bool]] = []
        self.gate: Deferred[Any] | None = None

    def _answer(self, value: Any) -> Deferred[Any]:
        if self.gate is None:
            return succeed(value)
        gate, self.gate = self.gate, None
        return gate.addCallback(lambda _: value)

    def receive_instance(self, caller: Caller, spooled: Spooled, header: bytes = b"", early: Any = None) -> Deferred[int]:
        self.stored.append((caller, spooled))
        self.headers.append(header)
        taking = self._answer(self.status)
        if early is not None:
            early()
        return taking

    def receive_availability(self, caller: Caller, uid: str, dataset: Dataset) -> Deferred[int]:
        self.available.append((caller, uid, dataset))
        return self._answer(self.status)

    def association_ended(self, caller: Caller, released: bool) -> None:
        self.ended.append((caller.ae_title, released))

    def find_worklist(self, caller: Caller, identifier: bytes, syntax: str, terms: WorklistTerms) -> Pages:
        asked = decode(identifier, syntax)
        self.terms.append(terms)
        self.found.append((caller, asked))
        for entry in self.entries:
            write_in(entry, charsets_of(asked, terms.charset), terms.unencodable)
        return Pages(self._answer([encode(entry, syntax) for entry in self.entries]), self.exceeded)

    def receive_performed(self, caller: Caller, create: bool, uid: str, attributes: Dataset, raw: bytes = b"") -> Deferred[PerformedAnswer]:
        self.performed.append((caller, create, uid, attributes))
        return self._answer(PerformedAnswer(self.status))

    def get_performed(self, caller: Caller, uid: str, tags: tuple[int, ...], syntax: str) -> Deferred[PerformedAnswer]:
        return self._answer(PerformedAnswer(self.status))


def in_place(work: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Stand in for deferToThread."""
    return maybeDeferred(work, *args)


def spool(path: Path) -> Spool:
    """Return a spool that works in place."""
    return Spool(path / "spool", in_place)


def left(kept: Spool) -> list[Path]:
    """Return every file in the spool, finished or not."""
    return [path for path in kept._path.rglob("*") if path.is_file()]


def quiet() -> tuple[Log, io.StringIO]:
    """Return a strict log and what it writes to."""
    stream = io.StringIO()
    return Log(stream, strict=True, terminal=False), stream


def listener_settings(**changes: Any) -> dict[str, Any]:
    """Return a listener's settings on a port of the system's choice."""
    return LISTENER.read({"port": 0, **changes})


def destination_settings(**changes: Any) -> dict[str, Any]:
    """Return a destination's settings."""
    return DESTINATION.read({"host": "127.0.0.1", "port": 11112, "ae_title": "ARCHIVE", **changes})


def keep(kept: Spool, data: bytes, ds: Dataset, syntax: str) -> Spooled:
    """Put a file into the spool."""
    file = kept.begin()
    file.write([data])
    results: list[tuple[str, int, str]] = []
    file.finish().addCallback(results.append)
    name, size, digest = results[0]
    return Spooled(name, str(ds.SOPClassUID), str(ds.SOPInstanceUID), syntax, size, digest)


def delivery(spooled: Spooled, changes: dict[str, str] | None = None) -> Delivery:
    """Return a C-STORE delivery of an object."""
    payload = encode_request(StoreRequest(spooled, changes or {}))
    return Delivery(1, 1, "archive", "lane", "images", "C-STORE", payload, "", "A1", 0)


class Modality:
    """A requestor core on an in-memory connection to a listener."""

    def __init__(self, listener: DicomListener, *, calling: str = "CT1", called: str = "BROKER", host: str = "127.0.0.1") -> None:
        self.calling, self.called = calling, called
        self.transport = StringTransport()
        self.shell: Any = listener.factory.buildProtocol(IPv4Address("TCP", host, 50112))
        self.core = Association(acceptor=False)
        self.message_id = 0
        if self.shell is not None:
            self.shell.makeConnection(self.transport)

    def associate(self, *contexts: tuple[str, str], identity: Identity | None = None, window: Window = _ONE) -> list[Happening]:
        """Ask for contexts of (SOP class, transfer syntax); returns what came back."""
        offered = tuple(Offer(2 * at + 1, abstract, (syntax,)) for at, (abstract, syntax) in enumerate(contexts))
        self.core.associate(Request(self.calling, self.called, offered, 1 << 14, identity=identity, window=window))
        return self.send(written(self.core.connected()))

    def send(self, data: bytes) -> list[Happening]:
        """Send bytes; returns what came back so far."""
        self.shell.dataReceived(data)
        return self.heard()

    def heard(self) -> list[Happening]:
        """Return what came back since the last time."""
        data = self.transport.value()
        self.transport.clear()
        return feed(self.core, data)

    def ask(self, field: Field, abstract: str, dataset: bytes = b"", instance: str = "", *, context: int = 1) -> bytes:
        """Return the bytes of a request."""
        self.message_id += 1
        return self.core.message(context, dimse.request(field, self.message_id, abstract, instance), dataset)

    def request(self, *args: Any, **more: Any) -> list[int]:
        """Send a request; returns the statuses that came back."""
        return statuses(self.send(self.ask(*args, **more)))

    def lose(self) -> None:
        """Cut the connection."""
        self.shell.connectionLost(Failure(ConnectionDone()))


def statuses(happenings: list[Happening]) -> list[int]:
    """Return the status of each response."""
    return [h.command.status for h in happenings if isinstance(h, Message)]
