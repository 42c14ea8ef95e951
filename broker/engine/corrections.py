"""What a person does about images that named no known exam, or the wrong one: each in one transaction, with who and why on the timeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from broker.connectors.base import Defer
from broker.dicom.dataset import EXPLICIT_LITTLE
from broker.dicom.rejection import KEY_OBJECTS
from broker.engine import recall, sighting
from broker.engine.again import Again
from broker.engine.clock import SiteClock
from broker.engine.couriers import Couriers
from broker.engine.intake import Intake, digest
from broker.engine.passage import Passage
from broker.engine.recall import LISTENER, Recalled
from broker.engine.router import Routed
from broker.errors import MessageError
from broker.model import Delivery, Outgoing, Received, Spooled
from broker.obs.status import CorrectionItem, EntryItem
from broker.ris import corrections as law
from broker.ris.context import RisContext
from broker.ris.corrections import Done, Said, Sent
from broker.ris.entities import Correction, Exam, Instance
from broker.ris.records import Records
from broker.store import audit, journal, outbox
from broker.store.database import Database, Transaction
from broker.store.records import RecordStore
from broker.store.spool import Spool

MAKER = "BROKER"  # Manufacturer and Modifying System of what the broker makes itself

Turn = Callable[[Transaction, RecordStore, RisContext], tuple[Done, list[tuple[int, Outgoing]]]]


class Written(NamedTuple):
    """What one transaction made durable; the effects follow its commit."""

    item: CorrectionItem
    deliveries: tuple[Delivery, ...]
    again: tuple[int, ...]  # messages whose routes run once more
    home: int | None  # the exam whose messages they are, where all of that exam's may run


class Corrections:
    """The commands of the reconciliation list (`web.reconciliation.Reconciliation`)."""

    def __init__(
        self, db: Database, clock: SiteClock, spool: Spool, intake: Intake, couriers: Couriers, again: Again, in_thread: Defer
    ) -> None:
        self._db, self._clock, self._spool, self._intake = db, clock, spool, intake
        self._couriers, self._again, self._in_thread = couriers, again, in_thread

    async def entries(self) -> list[EntryItem]:
        """Return the open entries, newest first, each with its likeliest exam."""
        found = await self._db.read("unmatched.entries", sighting.entries)
        return await self._seen(found, wide=False)

    async def entry(self, id: int) -> EntryItem:
        """Return an entry with the exams that fit best; raises LookupError."""
        found = await self._db.read("unmatched.entry", sighting.entry, id)
        return (await self._seen([found], wide=True))[0]

    async def _seen(self, found: list[sighting.Found], *, wide: bool) -> list[EntryItem]:
        said = [sighting.look(one, self._path, self._clock.zone) for one in found]
        return await self._db.read("unmatched.likely", sighting.judged, found, said, self._intake.site.authority, wide)

    async def link(self, id: int, accession: str, author: str, why: str) -> CorrectionItem:
        """Tie an entry to the exam with this accession number; raises LookupError or MessageError."""
        said = Said(author, why)

        def act(records: Records, context: RisContext, sent: Sent) -> Done:
            return law.link(records, law.entry_of(records, id), law.exam_of(records, accession), said, context, sent)

        return await self._recalling(said, lambda records: law.waiting(records, id), act)

    async def correct(self, id: int, accession: str, patient: str, author: str, why: str) -> CorrectionItem:
        """Say which accession number or patient the images of an entry have; raises LookupError or MessageError."""
        said = Said(author, why)
        whose = law.identifier(patient) if patient else None

        def act(records: Records, context: RisContext, sent: Sent) -> Done:
            return law.correct(records, law.entry_of(records, id), accession, whose, said, context, sent)

        return await self._recalling(said, lambda records: law.waiting(records, id), act)

    async def release(self, id: int, author: str, why: str) -> CorrectionItem:
        """Send the images of an entry on as they are; raises LookupError or MessageError."""
        said = Said(author, why)
        return await self._done(said, lambda tx, records, context: (law.release(records, law.entry_of(records, id), said, context), []))

    async def undo(self, id: int, author: str, why: str) -> CorrectionItem:
        """Take the last correction of an entry back; who has its images gets a rejection note. Raises LookupError or MessageError."""
        return await self._undo(lambda records: law.latest(records, entry_id=id), Said(author, why))

    async def undo_move(self, study: str, author: str, why: str) -> CorrectionItem:
        """Take the last move of a study back, in the same way."""
        return await self._undo(lambda records: law.latest(records, study_uid=study), Said(author, why))

    async def move(self, study: str, series: str, accession: str, title: str, author: str, why: str) -> CorrectionItem:
        """Move the images of a study, or of a series, to the exam with this accession number.

        Who has them gets a rejection note with this title (a key of `dicom.rejection.TITLES`), then the images under new UIDs. Raises
        MessageError.
        """
        said = Said(author, why)

        def choose(records: Records) -> list[Instance]:
            law.exam_of(records, accession)
            return law.chosen(records, study, series)

        def act(records: Records, context: RisContext, sent: Sent) -> Done:
            return law.move(records, choose(records), law.exam_of(records, accession), said, context, sent)

        return await self._recalling(said, choose, act, title)

    async def _undo(self, find: Callable[[Records], Correction], said: Said) -> CorrectionItem:
        def act(records: Records, context: RisContext, sent: Sent) -> Done:
            return law.undo(records, find(records), context, sent)

        return await self._recalling(said, lambda records: law.affected(records, find(records)), act)

    async def _recalling(
        self,
        said: Said,
        choose: Callable[[Records], list[Instance]],
        act: Callable[[Records, RisContext, Sent], Done],
        title: str = "worklist",
    ) -> CorrectionItem:
        """Take images back from where they went, if anywhere, in the transaction that says where they belong."""

        def gather(tx: Transaction) -> Recalled:
            return recall.gather(tx, choose(RecordStore(tx)))

        planned = await self._db.read("images.recall", gather)
        under_way, gone = self._couriers.withdraw(planned.queued), False
        try:
            recalled = recall.had(planned, under_way)
            if any(not one.spool for one in recalled.instances):
                raise MessageError("", "images were deleted from the spool after every destination had them; correct them in the archive")
            made = (recalled.copies, self._path, title, self._intake.site.new_uid, self._clock.text(), MAKER)
            kept = [(note, await self._keep(note)) for note in await self._in_thread(recall.notes, *made)]
            sent = Sent(recalled.sent, self._intake.site.new_uid())

            def turn(tx: Transaction, records: RecordStore, context: RisContext) -> tuple[Done, list[tuple[int, Outgoing]]]:
                if {one.id for one in choose(records)} != {one.id for one in recalled.instances}:
                    raise MessageError("", "more images came meanwhile; do it once more")
                done = act(records, context, sent)
                outbox.withdraw(tx, [id for ids in recalled.queued.values() for id in ids], context.at)
                journal.hold(tx, done.again, law.HELD)
                return done, recall.queue(tx, kept, said.author, context.at, self._spool.mark)

            written = await self._write(said, turn)
            gone = True
        finally:
            self._couriers.restore(planned.queued, gone=gone)
        return await self._follow(written)

    async def _keep(self, note: recall.Note) -> Spooled:
        file = self._spool.begin(recall.head(note))
        file.write([note.data])
        name, size, digest = await file.finish()
        return Spooled(name, KEY_OBJECTS, note.uid, EXPLICIT_LITTLE, size, digest)

    async def _done(self, said: Said, act: Turn) -> CorrectionItem:
        return await self._follow(await self._write(said, act))

    async def _write(self, said: Said, act: Turn) -> Written:
        """Run it in one transaction with what follows from it."""
        written: Written = await self._db.run("unmatched.correct", self._correct, said, act, self._clock.text(), self._clock())
        return written

    async def _follow(self, written: Written) -> CorrectionItem:
        """Send what was queued, and run the routes of the images once more."""
        if written.deliveries:
            self._couriers.deliver(written.deliveries)
        if written.home is not None:
            await self._again.release(written.home)
        else:
            await self._again.route_all(written.again)
        return written.item

    def _correct(self, tx: Transaction, said: Said, act: Turn, now: str, at: float) -> Written:
        message_id = journal.reserve(tx)
        records, site = RecordStore(tx), self._intake.site
        done, sending = act(tx, records, site.ris(now, at, message_id))
        correction, accession = done.correction, _accession(records, done.correction)
        what = f"{correction.what} by hand" if correction.undone_at is None else f"{correction.what}: undone"
        content = json.dumps({"correction": correction.id, "what": what}).encode()
        received = Received(LISTENER, "ris", "correction", said.author, "", str(correction.id), content, digest(content))
        passage = Passage(tx, lambda: None, site, message_id, now, at)
        passage.told(done.events)
        routed = Routed()
        self._intake.router.tell(passage, routed)
        journal.insert(tx, received, at, id=message_id, state="routed", reason=what, accession=accession)
        for one in dict.fromkeys(filter(None, (accession, _origin(records, correction)))):
            audit.note(tx, one, at, what, "images", said.author, "ris", message_id, said.why)
        sending = [*sending, *((message_id, one) for one in routed.outgoing)]
        item = CorrectionItem(correction.id, correction.what, accession, len(correction.instances), len(sending))
        home = correction.exam_id if correction.undone_at is None else correction.from_exam_id
        return Written(item, tuple(outbox.enqueue(tx, sending, at)), done.again, home)

    def _path(self, name: str) -> Path:
        return self._spool.path(name)


def _accession(records: Records, correction: Correction) -> str:
    return records.get(Exam, correction.exam_id).accession if correction.exam_id is not None else ""


def _origin(records: Records, correction: Correction) -> str:
    return records.get(Exam, correction.from_exam_id).accession if correction.from_exam_id is not None else ""
