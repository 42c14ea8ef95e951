"""One C-MOVE or C-GET under way: what is in the spool is sent from here, what is in the archives is moved by them or passed on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred, FirstError, gatherResults

from broker.connectors import base
from broker.connectors.dicom_archive import Archive, Moved
from broker.connectors.dicom_passing import passing
from broker.connectors.dicom_retrieval import Progress, Retrieved, Return, Task
from broker.dicom import dimse
from broker.dicom.dimse import Counts, Status
from broker.dicom.query import IMAGE, PATIENT, SERIES, STUDY, UNIQUE, Retrieval, divide, values_of
from broker.dicom.storerequest import encode_request
from broker.engine.expected import Expected
from broker.errors import DeliveryError, MessageError, Refused
from broker.model import Delivery, Spooled, StoreRequest
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.store.kept import Kept
from broker.store.spool import Spool

if TYPE_CHECKING:
    from broker.engine.retrieval import Sources

_AT_ONCE = 4  # objects sent from the spool side by side, where the destination is that wide
_NUMBERS = count(-1, -1)  # of deliveries that are in no outbox


async def together(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all of them; raises what the first one raises that fails."""
    try:
        await gatherResults([Deferred.fromCoroutine(work) for work in works], consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()


@dataclass(slots=True)
class Target:
    """Where objects go: an AE title with its destination, or back over the association that asks."""

    ae_title: str
    destination: base.Destination | None = None
    back: Return | None = None
    originator: tuple[str, int] = ("", 0)  # of the C-MOVE, and its message id

    async def send(self, request: StoreRequest) -> int:
        """Send one object and return its status; one that could not be sent is a failure."""
        try:
            if self.destination is None:
                assert self.back is not None
                return await self.back.store(request)
            payload, uid = encode_request(replace(request, originator=self.originator)), request.spooled.sop_instance
            answer = await self.destination.send(Delivery(next(_NUMBERS), 0, "", "", "", "C-STORE", payload, uid, "", 0))
            if not answer.startswith("0x"):  # words: taken by policy, for all that went wrong
                return Status.SOME_SUBOPERATIONS
            return int(answer[:6], 16)
        except (DeliveryError, MessageError, OSError):
            return Status.PROCESSING_FAILURE

    @property
    def width(self) -> int:
        """How many objects may be sent at a time."""
        return 1 if self.destination is None else max(1, min(self.destination.width, _AT_ONCE))

    async def close(self) -> None:
        """Let the destination go."""
        if self.destination is not None:
            await self.destination.close()


class _Tally:
    """Counts sub-operations over all parts of a retrieval, and tells how far they are."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = Counts()  # of parts that have ended
        self._part = Counts()  # of the part under way
        self.later = 0  # known to follow
        self.failed: list[str] = []

    @property
    def total(self) -> Counts:
        """Return the counts as they stand."""
        done, part = self._done, self._part
        return Counts(self.later + part.remaining, done.completed + part.completed, done.failed + part.failed, done.warning + part.warning)

    def show(self, part: Counts) -> None:
        """The part under way is so far."""
        self._part = part
        self._progress(self.total)

    def end(self, part: Counts) -> None:
        """The part under way has ended; what remains of it, it does after a cancel only."""
        self.later += part.remaining
        self._part = replace(part, remaining=0)
        self._done, self._part = replace(self.total, remaining=0), Counts()

    def again(self, uids: Collection[str]) -> None:
        """These are tried once more: as many of what has failed have not."""
        self.failed = [uid for uid in self.failed if uid not in uids]
        self._done = replace(self._done, failed=max(0, self._done.failed - len(uids)))

    def one(self, status: int, uid: str) -> None:
        """One object of the spool was sent, or not."""
        done = self._done
        if status == Status.SUCCESS:
            self._done = replace(done, completed=done.completed + 1)
        elif dimse.is_warning(status):
            self._done = replace(done, warning=done.warning + 1)
        else:
            self._done = replace(done, failed=done.failed + 1)
            self.failed.append(uid)
        self.later -= 1
        self._progress(self.total)


class Moving:
    """One retrieval."""

    def __init__(
        self,
        spool: Spool,
        expected: Expected,
        metrics: Metrics,
        log: Log,
        sources: Sources,
        target: Target,
        task: Task,
        progress: Progress,
    ) -> None:
        self._spool, self._expected, self._metrics, self._log = spool, expected, metrics, log
        self._sources, self._target, self._task = sources, target, task
        self._tally = _Tally(progress)
        self._absent: dict[str, None] = {}
        self._passed: set[str] = set()  # SOP Instance UIDs of what came from an archive and went on

    async def run(self, wanted: Retrieval, archives: Sequence[Archive], held: Sequence[Kept]) -> Retrieved:
        """Do all of it and return how it ended; archives that cannot be asked do not keep others from it.

        What an archive has already is left to it, as long as it can be asked; else the copy that is still here goes.
        """
        shares = await self._shares(wanted, archives)
        here = [one for one in held if not one.delivered or not shares]
        await self._send(here)
        for archive, share in shares:
            await self._share(archive, share, [one for one in archives if one is not archive])
        if self._absent and not self._task.cancelled:
            sent = {_uid(one.request) for one in here} | self._passed
            rest = [one for one in held if _uid(one.request) not in sent]
            self._tally.again({_uid(one.request) for one in rest})
            await self._send(rest)
        return self._ended()

    def _ended(self) -> Retrieved:
        counts, failed = self._tally.total, tuple(dict.fromkeys(self._tally.failed))
        done = counts.completed + counts.warning
        comment = f"no answer from {', '.join(self._absent)}" if self._absent else ""
        if self._absent and self._sources.strict:
            return Retrieved(Status.UNABLE_TO_PROCESS, counts, failed, comment)
        if counts.failed or self._absent:
            return Retrieved(Status.SOME_SUBOPERATIONS if done else Status.NO_SUBOPERATION, counts, failed, comment)
        return Retrieved(Status.SUCCESS, counts)

    def _missed(self, archive: Archive, why: str) -> None:
        if not self._task.cancelled:
            self._absent[archive.name] = None
            self._metrics.archive_failures.labels(archive.name).inc()
            self._log.warning("archive cannot be asked", destination=archive.name, reason=why)

    # from the spool

    async def _send(self, held: Sequence[Kept]) -> None:
        waiting = list(reversed(held))
        self._tally.later += len(waiting)

        async def work() -> None:
            while waiting and not self._task.cancelled:
                request = waiting.pop().request
                self._tally.one(await self._target.send(request), request.spooled.sop_instance)

        await together([work() for _ in range(min(self._target.width, len(waiting)))])

    # from the archives

    async def _share(self, archive: Archive, share: Retrieval, others: Sequence[Archive]) -> None:
        """Have an archive send its share; what it does not get done is asked of the others, and else counts as failed."""
        if self._task.cancelled:
            return
        latest = Counts()

        def show(part: Counts) -> None:
            nonlocal latest
            latest = part
            self._tally.show(part)

        try:
            status, counts, failed = await self._moved(archive, share, show)
        except DeliveryError as error:
            self._missed(archive, str(error))
            self._tally.end(replace(latest, remaining=0, failed=latest.failed + latest.remaining))
            return
        again = await self._elsewhere(share, failed[: counts.failed], others) if counts.failed else []
        found = {uid for _, one in again for uid in one.wanted}
        self._tally.failed += [uid for uid in failed if uid not in found]
        self._tally.end(replace(counts, failed=counts.failed - len(found)))
        if status not in (Status.SUCCESS, Status.CANCELLED, Status.SOME_SUBOPERATIONS):
            self._missed(archive, f"status 0x{status:04X}")
        for other, rest in again:
            if self._task.cancelled:
                self._tally.later += len(rest.wanted)
            await self._share(other, rest, others[others.index(other) + 1 :])

    async def _moved(self, archive: Archive, share: Retrieval, show: Progress) -> Moved:
        if self._target.ae_title and self._sources.through == "archive":
            async with archive:
                await archive.open(share.model.move)
                moved = await archive.move(share, self._target.ae_title, self._task, show)
            if moved[0] in (Status.SUCCESS, Status.CANCELLED) or moved[1] != Counts():
                return moved
        # it has not begun: mostly it does not know the destination, for which some archives do not say 0xA801
        async with archive:
            back, models = self._target.back, (share.model.get, share.model.move)
            await archive.open(*models, serve=passing(self._spool, self._pass_on), stored=back.syntaxes if back else None)
            if archive.offers(share.model.get):
                return await archive.get(share, self._task, show)
            with self._expected.of(archive.ae_title, share, self._pass_on):
                return await archive.move(share, self._sources.ae_title, self._task, show)

    def _pass_on(self, spooled: Spooled) -> Deferred[int]:
        """Send on what an archive has sent here, and keep nothing of it."""
        sent = Deferred.fromCoroutine(self._target.send(StoreRequest(spooled)))
        return sent.addBoth(self._let_go, spooled)

    def _let_go(self, result: Any, spooled: Spooled) -> Any:
        if isinstance(result, int) and (result == Status.SUCCESS or dimse.is_warning(result)):
            self._passed.add(spooled.sop_instance)
        self._spool.remove(spooled.name)
        return result

    async def _elsewhere(self, share: Retrieval, failed: Sequence[str], others: Sequence[Archive]) -> list[tuple[Archive, Retrieval]]:
        """Return which of the other archives has which of the instances that one has failed to send."""
        missing, found = set(failed), list[tuple[Archive, Retrieval]]()
        parts = [share.at(SERIES, [uid]) for uid in share.wanted] if share.level == SERIES else [share.at(IMAGE, failed)]
        for archive in others:
            if not missing or self._task.cancelled:
                break
            try:
                async with archive:
                    await archive.open(share.model.find)
                    for part in parts:
                        held = [uid for entry in await self._found(archive, part, IMAGE) for uid in values_of(entry, UNIQUE[IMAGE])]
                        if uids := [uid for uid in dict.fromkeys(held) if uid in missing]:
                            found.append((archive, part.at(IMAGE, uids)))
                            missing.difference_update(uids)
            except DeliveryError as error:
                self._missed(archive, str(error))
        return found

    # which archive has what

    async def _shares(self, wanted: Retrieval, archives: Sequence[Archive]) -> list[tuple[Archive, Retrieval]]:
        """Return what is asked of each archive: with several of them, each series of the one that has the most of it."""
        if len(archives) < 2:
            return [(archive, wanted) for archive in archives]
        level = IMAGE if wanted.level == IMAGE else SERIES
        above: dict[str, str] = {}
        holdings: list[dict[str, int]] = []
        for archive in archives if not self._task.cancelled else ():
            holding: dict[str, int] = {}
            holdings.append(holding)
            try:
                async with archive:
                    await archive.open(wanted.model.find)
                    for asked in await self._asked(archive, wanted):
                        for entry in await self._found(archive, asked, level):
                            uid = next(iter(values_of(entry, UNIQUE[level])), "")
                            counted = next(iter(values_of(entry, "NumberOfSeriesRelatedInstances")), "0")
                            holding[uid] = int(counted) if counted.isdigit() else 0
                            above[uid] = asked.wanted[0] if level == SERIES else ""
            except DeliveryError as error:
                self._missed(archive, str(error))
        return [
            (archive, share)
            for archive, uids in zip(archives, divide(holdings), strict=True)
            for share in _grouped(wanted, level, uids, above)
        ]

    async def _asked(self, archive: Archive, wanted: Retrieval) -> list[Retrieval]:
        """Return one retrieval for each study whose series are to be found out."""
        studies = wanted.keys.get(STUDY, ())
        if wanted.level == PATIENT:
            found = await self._found(archive, wanted, STUDY)
            studies = tuple(uid for entry in found for uid in values_of(entry, UNIQUE[STUDY]))
        return [wanted] if wanted.level == IMAGE else [wanted.at(STUDY, [study]) if wanted.level != SERIES else wanted for study in studies]

    async def _found(self, archive: Archive, asked: Retrieval, level: str) -> list[Dataset]:
        """Return what an archive has at a level, of the values of the unique keys down to that of `asked`."""
        identifier = asked.identifier()
        identifier.QueryRetrieveLevel = level
        if level not in asked.keys:
            setattr(identifier, UNIQUE[level], "")
        if level == SERIES:
            identifier.NumberOfSeriesRelatedInstances = ""
        found: list[Dataset] = []

        async def take(entries: Sequence[Dataset]) -> None:
            found.extend(entries)

        status = await archive.find(asked.model, identifier, take, self._task)
        if status not in (Status.SUCCESS, Status.CANCELLED):
            raise Refused(f"status 0x{status:04X}")
        return found


def _uid(request: StoreRequest) -> str:
    """Return the SOP Instance UID that an object leaves with."""
    return request.changes.get("SOPInstanceUID") or request.spooled.sop_instance


def _grouped(wanted: Retrieval, level: str, uids: Sequence[str], above: dict[str, str]) -> list[Retrieval]:
    """Return the retrievals of these series or images, one for each study."""
    if wanted.level in (SERIES, IMAGE):
        return [wanted.at(level, uids)] if uids else []
    groups: dict[str, list[str]] = defaultdict(list)
    for uid in uids:
        groups[above[uid]].append(uid)
    return [wanted.at(SERIES, group, STUDY=study) for study, group in groups.items()]
