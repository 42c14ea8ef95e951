"""The shell that receives HL7 from files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from broker.connectors import file_disk as disk
from broker.connectors.base import Defer, Hl7Intake
from broker.connectors.batches import Taken, take
from broker.connectors.file_disk import Found, Unfit
from broker.errors import StoreError
from broker.obs.log import Log
from broker.obs.metrics import Metrics

FILES = 10_000  # of one look at the folder
GRACE = 5.0  # seconds in which a file that is being taken in may end
MOST_TOLD = 1000  # refused messages that a *.why names


class FileListener:
    """Looks at a folder again and again; one file is read at a time, and moved away when its messages are durable."""

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        reactor: Any,
        intake: Hl7Intake,
        defer: Defer,
        now: Callable[[], str],
        metrics: Metrics,
        log: Log,
    ) -> None:
        """`now` returns an HL7 timestamp, for batch answers."""
        self.name = name
        self._settings, self._reactor, self._intake, self._defer, self._now = settings, reactor, intake, defer, now
        self._faults, self._log = metrics.rejected_bytes, log.bind(listener=name)
        self._folder = Path(settings["folder"])
        self._archive = self._folder / settings["archive"] if settings["archive"] != "none" else None
        self._failed = self._folder / settings["failed"]
        self._answers = self._folder / settings["answers"] if settings["answers"] else None
        self._summed: bool = settings["checksum"] == "sha256"
        self._seen: dict[str, tuple[Found, float]] = {}  # files that may still be growing, and since when they have not
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor
        self._looking: Deferred[None] = succeed(None)
        self._stopping = False
        self._told = ""  # the last trouble with the folder that was logged

    def start(self) -> Deferred[str]:
        """Make the folders, and fire with "file /srv/hl7/in"; fails with OSError when files could not be moved from one to the other."""
        return self._defer(self._prepare).addCallback(self._begin)

    def stop(self) -> Deferred[None]:
        """Read no further file; fires when the one that is being taken in is moved away, or after a grace is left for the next start."""
        self._stopping = True
        if self._loop.running:
            self._loop.stop()
        looking = self._looking
        if not looking.called:
            cut = self._reactor.callLater(GRACE, looking.cancel)
            looking.addCallback(lambda _: cut.cancel() if cut.active() else None)
        return looking

    def _prepare(self) -> None:
        """Make the folders; on a thread."""
        device = self._folder.stat().st_dev
        for folder in filter(None, (self._archive, self._failed, self._answers)):
            folder.mkdir(parents=True, exist_ok=True)
            if folder.stat().st_dev != device and folder != self._answers:
                raise OSError(f"{folder}: on another file system than {self._folder}, where files cannot be moved to at once")

    def _begin(self, _: None) -> str:
        self._loop.start(self._settings["every"], now=False)  # a listener of a new configuration begins before it may hand over
        return f"file {self._folder}"

    def _look(self) -> Deferred[None]:
        self._looking = ensureDeferred(self._round()).addErrback(self._trouble)
        return self._looking

    async def _round(self) -> None:
        """Take in every file that is ready, in the order of their names."""
        full = True
        while full and not self._stopping:
            found = await self._defer(disk.scan, self._folder, self._settings["pattern"], FILES, disk.SHA256 if self._summed else "")
            ready = self._settled(found)
            for one in ready:
                if self._stopping:
                    return
                await self._pick_up(self._folder / one.name)
            full = len(ready) == FILES
        self._told = ""

    def _settled(self, found: list[Found]) -> list[Found]:
        """Return the files before the first one that may still be growing: their order is kept."""
        now, patience = self._reactor.seconds(), self._settings["settle"]
        seen, self._seen = self._seen, {}
        ready: list[Found] = []
        for one in found:
            earlier, since = seen.get(one.name, (one, now))
            since = since if earlier == one else now
            self._seen[one.name] = (one, since)
            if now - since >= patience and len(ready) == len(self._seen) - 1:
                ready.append(one)
        return ready

    async def _pick_up(self, path: Path) -> None:
        try:
            raw = await self._defer(disk.read, path, self._settings["limit"], self._summed)
        except FileNotFoundError:
            return  # somebody took it back
        except Unfit as error:
            await self._set_aside(path, [str(error)])
            return
        taken = await take(raw, lambda message: self._intake.receive_hl7(self.name, "file", message))
        del raw
        if self._answers is not None and taken.messages:
            await self._defer(disk.write, self._answers / f"{path.name}.ack", self._answer(taken))
        problems = taken.refused + taken.faults
        if not taken.messages:
            problems = ["no HL7 message is in it"]
        if problems:
            await self._set_aside(path, problems)
        elif self._archive is not None:
            await self._defer(disk.move, path, self._archive)
        else:
            await self._defer(disk.remove, path)

    def _answer(self, taken: Taken) -> bytes:
        tally = taken.tally
        if taken.messages == 1 and not tally.header and not tally.batches[0].header:
            return b"".join(tally.batches[0].answers)
        return tally.answer(self._now(), f"F{self._now()}")

    async def _set_aside(self, path: Path, problems: list[str]) -> None:
        """Move a file to those that failed. Its name is not logged, for a sender may have put a patient's into it."""
        self._faults.labels(self.name, "file").inc()
        self._log.warning("file set aside", count=len(problems), reason=problems[0][:300])
        more = [f"and {len(problems) - MOST_TOLD} more"] if len(problems) > MOST_TOLD else []
        await self._defer(disk.move, path, self._failed, "".join(f"{line}\n" for line in problems[:MOST_TOLD] + more).encode())

    def _trouble(self, failure: Failure) -> None:
        """The folder cannot be worked with now: what is in it stays, and is looked at again."""
        if failure.check(CancelledError):
            return
        error = failure.value
        why = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        if not failure.check(OSError, StoreError):
            self._log.failure("files not picked up", failure)
        elif why != self._told:
            self._log.warning("files not picked up", reason=why)
        self._told = why
        self._faults.labels(self.name, "folder").inc()
