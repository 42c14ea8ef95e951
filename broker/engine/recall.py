"""Images taken back from where they went: what is still queued is withdrawn, and who has them gets a rejection note (IHE RAD IOCM)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.dicom.coerce import prepared
from broker.dicom.dataset import EXPLICIT_LITTLE, encode, read_header
from broker.dicom.files import file_meta
from broker.dicom.rejection import KEY_OBJECTS, Reference, rejection_note
from broker.dicom.storerequest import decode_request, encode_request
from broker.errors import MessageError
from broker.model import Outgoing, Received, Spooled, StoreRequest
from broker.ris.entities import Instance
from broker.store import journal, objects, outbox
from broker.store.database import Transaction
from broker.store.outbox import DeliveryRow

LISTENER = "reconciliation"  # under which the journal keeps what a person and the broker itself have made


@dataclass(frozen=True, slots=True)
class Copy:
    """One image as one delivery sends it."""

    instance: Instance
    row: DeliveryRow
    request: StoreRequest

    @property
    def reference(self) -> Reference:
        """How the destination knows it."""
        sent = self.request.changes
        return Reference(
            sent.get("StudyInstanceUID") or self.instance.study_uid,
            sent.get("SeriesInstanceUID") or self.instance.series_uid,
            self.instance.sop_class,
            sent.get("SOPInstanceUID") or self.instance.uid,
        )


@dataclass(frozen=True, slots=True)
class Recalled:
    """Images, the deliveries of theirs that are queued, and the copies that destinations have."""

    instances: tuple[Instance, ...]
    queued: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # destination -> ids of what waits or is parked
    copies: tuple[Copy, ...] = ()  # of which only those that are delivered, or under way, are anywhere

    @property
    def sent(self) -> frozenset[int]:
        """The ids of the images that somebody has."""
        return frozenset(copy.instance.id for copy in self.copies)


@dataclass(frozen=True, slots=True)
class Note:
    """A rejection note to one destination, and where it is queued: behind the images that it rejects."""

    copy: Copy
    uid: str
    data: bytes


def gather(tx: Transaction, instances: Sequence[Instance]) -> Recalled:
    """Return the images with what became of their deliveries; copies that were rejected before do not count."""
    queued: dict[str, list[int]] = {}
    copies = []
    for instance in instances:
        for row in outbox.of_message(tx, instance.message_id):
            if row.kind != "C-STORE":
                continue
            if row.state != "delivered":
                queued.setdefault(row.destination, []).append(row.id)
            request = decode_request(row.payload)
            if request.reissue == instance.reissue:
                copies.append(Copy(instance, row, request))
    return Recalled(tuple(instances), {name: tuple(ids) for name, ids in queued.items()}, tuple(copies))


def had(recalled: Recalled, under_way: Collection[int]) -> Recalled:
    """Return it with the copies that destinations have, or may be getting at this moment."""
    copies = tuple(copy for copy in recalled.copies if copy.row.state == "delivered" or copy.row.id in under_way)
    return Recalled(recalled.instances, recalled.queued, copies)


def notes(copies: Sequence[Copy], path: Callable[[str], Path], title: str, new_uid: Callable[[], str], now: str, maker: str) -> list[Note]:
    """Return a rejection note for every destination and study; blocks. Raises MessageError when an image cannot be read."""
    groups: dict[tuple[str, str], list[Copy]] = {}
    for copy in copies:
        groups.setdefault((copy.row.destination, copy.reference.study), []).append(copy)
    made = []
    for group in groups.values():
        first = group[0]
        try:
            header, _ = read_header(path(first.request.spooled.name))
        except (OSError, ValueError) as error:
            raise MessageError("", "an image is no longer in the spool, so it cannot be sent anew") from error
        header = prepared(header, first.request, system=maker, now=now)
        uid = new_uid()
        references = list(dict.fromkeys(copy.reference for copy in group))
        note = rejection_note(header, references, title, uid=uid, series=new_uid(), now=now, maker=maker)
        made.append(Note(max(group, key=lambda one: one.row.id), uid, encode(note, EXPLICIT_LITTLE)))
    return made


def head(note: Note) -> bytes:
    """Return what stands before the note in its file."""
    return file_meta(KEY_OBJECTS, note.uid, EXPLICIT_LITTLE)


def queue(tx: Transaction, kept: Sequence[tuple[Note, Spooled]], author: str, at: float, spool: str) -> list[tuple[int, Outgoing]]:
    """Keep the notes in the journal and return them as what is sent, each with its message."""
    sending = []
    for note, spooled in kept:
        row, payload = note.copy.row, encode_request(StoreRequest(spooled))
        received = Received(LISTENER, "dicom", "C-STORE", author, "", note.uid, payload, spooled.digest, spooled)
        message_id = journal.insert(tx, received, at, state="routed", reason="rejection note", accession=row.accession)
        objects.keep(tx, [(message_id, spooled)], spool)
        sending.append((message_id, Outgoing(row.destination, row.lane, row.channel, "C-STORE", payload, note.uid, row.accession)))
    return sending
