"""Playing a planned morning against a running broker: every visit is a coroutine, every station does one exam at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore, gatherResults
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.task import deferLater

from broker.errors import BrokerError
from broker.simulate import answers, messages
from broker.simulate.images import make_images, modality_of, scheduled_step, unscheduled_entry
from broker.simulate.modality import Modality
from broker.simulate.peers import Peers
from broker.simulate.plan import REPORTED, Morning, Visit, report

TOGETHER = 8  # visits under way at the same time
FIRST_STATION = "CT1"


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that was done; `what` is a key of `Morning.totals`."""

    what: str
    done: int
    of: int
    text: str


Report = Callable[[Progress], None]


class Player:
    """Plays a morning; what went otherwise than planned is in `problems`, free of patient data."""

    def __init__(self, reactor: Any, morning: Morning, peers: Peers, report_progress: Report, *, pace: float = 0.0) -> None:
        self.problems: list[str] = []
        self.accessions: dict[int, str] = {}  # visit number -> accession
        self.refused = 0  # orders answered AE, as planned
        self.repeated = 0  # messages sent twice and answered the same
        self._reactor, self._morning, self._peers, self._pace = reactor, morning, peers, pace
        self._report_progress = report_progress
        self._done: Counter[str] = Counter()
        self._totals = morning.totals()
        self._places = DeferredSemaphore(TOGETHER)
        self._stations: dict[str, DeferredLock] = {}

    def play(self) -> Deferred[None]:
        """Fire when the last message is answered.

        pace: seconds between the beginnings of two visits; 0 is as fast as the broker answers.
        """
        playing = [self._begin(visit) for visit in self._morning.visits]
        return gatherResults(playing, consumeErrors=True).addCallback(lambda _: Deferred.fromCoroutine(self._strays()))

    def _begin(self, visit: Visit) -> Deferred[None]:
        if not self._pace:
            return self._places.run(self._play, visit)
        arrival = deferLater(self._reactor, self._pace * (visit.number - 1), lambda: None)
        return arrival.addCallback(lambda _: self._places.run(self._play, visit))

    async def _play(self, visit: Visit) -> None:
        try:
            await self._visit(visit)
        except (OSError, ConnectError, ConnectionClosed, BrokerError) as error:
            self.problems.append(f"{visit.order.placer}: {type(error).__name__}: {error}")

    async def _visit(self, visit: Visit) -> None:
        await self._register(visit)
        if not await self._order(visit):
            return
        if visit.temporary:
            await self._expect("AA", messages.merge(visit.person, visit.temporary, visit.envelope(5, 4)))
        if visit.ending == "cancelled":
            await self._expect("AA", messages.order(visit.kind, "CA", visit.person, visit.order, visit.envelope(6, 5)))
        if not visit.images:
            return
        accession = await self._scan(visit)
        for number, status in enumerate(REPORTED.get(visit.ending, "") if accession else "", 10):
            text = report(visit, accession, status)
            await self._expect("AA", messages.report(visit.person, text, visit.envelope(number, 60 + number, "DICTATION")), author=True)
            self._tell("reports", f"{accession} {status}")

    async def _register(self, visit: Visit) -> None:
        if visit.temporary:
            unknown = replace(visit.person, mrn=visit.temporary)
            await self._expect("AA", messages.adt("A04", unknown, visit.envelope(1)))
        else:
            await self._expect("AA", messages.adt("A04", visit.person, visit.envelope(1)))
        if visit.updated:
            moved = replace(self._ordered_for(visit), address="1 ELSEWHERE^^UTOPIA^^00001")
            await self._expect("AA", messages.adt("A08", moved, visit.envelope(2, 1)))
        self._tell("patients", visit.person.mrn)

    async def _order(self, visit: Visit) -> bool:
        """Place the order; returns whether an exam came of it."""
        person = self._ordered_for(visit)
        placed = messages.order(visit.kind, "NW", person, visit.order, visit.envelope(3, 2))
        answer = await self._expect("AE" if visit.ending == "refused" else "AA", placed)
        self._tell("orders", f"{visit.order.placer} {visit.order.code}")
        if visit.ending == "refused":
            self.refused += answers.code(answer) == "AE"
            return False
        if visit.repeated:
            again = await self._expect("AA", placed)
            self.repeated += again == answer
            if again != answer:
                self.problems.append(f"{visit.order.placer}: the repeated order got another answer")
        if visit.changed:
            changed = replace(visit.order, priority="A")
            await self._expect("AA", messages.order(visit.kind, "XO", person, changed, visit.envelope(4, 3)))
        return answers.code(answer) == "AA"

    @staticmethod
    def _ordered_for(visit: Visit) -> Any:
        return replace(visit.person, mrn=visit.temporary) if visit.temporary else visit.person

    async def _scan(self, visit: Visit) -> str:
        """Perform every scheduled step of the visit's exam; returns its accession number, "" when the worklist had none."""
        entries = await self._peers.modality(FIRST_STATION).worklist({"PatientID": visit.person.mrn})
        if not entries:
            self.problems.append(f"{visit.order.placer}: not in the worklist")
            return ""
        for number, entry in enumerate(entries):
            station = str(scheduled_step(entry).get("ScheduledStationAETitle") or "") or FIRST_STATION
            lock = self._stations.setdefault(station, DeferredLock())
            count = max(1, visit.images // len(entries) + (number < visit.images % len(entries)))
            await lock.run(self._perform, visit, entry, station, count)
        accession = str(entries[0].get("AccessionNumber", ""))
        self.accessions[visit.number] = accession
        self._tell("exams", f"{accession} {modality_of(entries[0])}")
        return accession

    async def _perform(self, visit: Visit, entry: Dataset, station: str, count: int) -> None:
        modality = self._peers.modality(station)
        at = f"{visit.at + timedelta(minutes=40):%Y%m%d%H%M%S}"
        end = f"{visit.at + timedelta(minutes=52):%Y%m%d%H%M%S}"
        performed = await modality.start(entry, at)
        self._check(performed.status, f"{station}: MPPS N-CREATE")
        images = make_images(entry, count, station=station, at=at, seed=visit.order.placer)
        await self._store(modality, images)
        if visit.ending == "in progress":
            return
        finish = modality.discontinue if visit.ending == "discontinued" else modality.complete
        self._check(await finish(performed, images, end), f"{station}: MPPS N-SET")
        if await modality.commit(images) != len(images):
            self.problems.append(f"{station}: not all images were committed")

    async def _store(self, modality: Modality, images: list[Dataset]) -> None:
        for status in await modality.store(images):
            self._check(status, f"{modality.ae_title}: C-STORE")
            self._tell("images", modality.ae_title)

    async def _strays(self) -> None:
        """Send what belongs to no exam: a report, and an image whose accession was typed in by hand."""
        person, text, envelope = self._morning.stray_report
        await self._expect("AA", messages.report(person, text, envelope), author=True)
        self._tell("reports", "for an accession that nobody knows")
        entry = unscheduled_entry(
            patient_id=person.mrn,
            name=f"{person.family}^{person.given}",
            accession=self._morning.stray_accession,
            study_uid="",
            modality="CT",
            station=FIRST_STATION,
        )
        at = f"{self._morning.start + timedelta(hours=1):%Y%m%d%H%M%S}"
        images = make_images(entry, 1, station=FIRST_STATION, at=at, seed=self._morning.stray_accession)
        await self._store(self._peers.modality(FIRST_STATION), images)

    async def _expect(self, code: str, message: bytes, *, author: bool = False) -> bytes:
        answer = await (self._peers.author if author else self._peers.ehr).send(message)
        if answers.code(answer) != code:
            self.problems.append(f"{answers.kind(message)} {answers.control_id(message)} was answered {answers.code(answer)}, not {code}")
        return answer

    def _check(self, status: int, what: str) -> None:
        if status != 0:
            self.problems.append(f"{what} was answered {status:#06x}")

    def _tell(self, what: str, text: str) -> None:
        self._done[what] += 1
        self._report_progress(Progress(what, self._done[what], self._totals[what], text))
