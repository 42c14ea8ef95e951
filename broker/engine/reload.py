"""Another configuration for a running broker: planned, applied, rolled back, kept as versions, and compared with the folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock

from broker.config.models import Config
from broker.config.outline import Outline
from broker.config.plan import Held, Plan, changed_files, compare, effects, refusals, with_secrets
from broker.config.sources import Source, differing, fingerprint
from broker.config.versions import Version, Versions
from broker.engine.changeover import Changeover, changed
from broker.errors import BrokerError, ConfigError
from broker.obs.log import Log
from broker.obs.metrics import Metrics
from broker.obs.status import ConfigurationStatus
from broker.store import queues
from broker.store.database import Database

POLL = 2.0  # seconds between two looks at the files, where the configuration wants that


class Reload:
    """Holds which configuration runs, and is the only way to another one."""

    def __init__(
        self,
        path: Path,
        config: Config,
        versions: Versions,
        changeover: Changeover,
        load: Callable[[Path], Config],
        outline: Callable[[Sequence[Source]], Outline],
        db: Database,
        now: Callable[[], float],
        in_thread: Callable[..., Deferred[Any]],
        metrics: Metrics,
        log: Log,
        connections: Callable[[], Mapping[str, int]],
        changed: Callable[[Config], None],
    ) -> None:
        """`path`: the channels file that a person edits; `changed` hears of the configuration that runs from now on."""
        self._path, self.config, self._versions, self._changeover = path, config, versions, changeover
        self._load, self._outline, self._db, self._now, self._in_thread = load, outline, db, now, in_thread
        self._metrics, self._log, self._connections, self._changed = metrics, log, connections, changed
        self.version: Version | None = None  # None before the start
        self._lock = DeferredLock()
        self._lock.acquire()  # until it has begun: what is asked for during the start waits for its end
        self._found: Mapping[str, str] = {}  # what the last look found changed on disk: name -> digest
        self._polled: Mapping[str, str] = {}  # what the last poll found
        self._seen: Mapping[str, str] = {}  # of that, what need not be tried again

    async def begin(self) -> None:
        """Note what runs, as a version of its own when other files ran before; raises BrokerError."""
        try:
            await self._begin()
        finally:
            self._lock.release()

    async def _begin(self) -> None:
        latest: Version | None = await self._in_thread(self._versions.latest)
        if latest is None or latest.digest != self.config.digest:
            number = await self._in_thread(self._versions.next_number)
            latest = Version(number, self.config.digest, self._now(), "start")
            await self._in_thread(self._versions.commit, await self._in_thread(self._versions.stage, self.config, latest))
        self._runs(latest)
        await self._look()
        self._seen = self._found  # other than what runs only after a rollback

    async def plan(self) -> Plan:
        """Return what `apply` would change; raises ConfigError when the files are not in order."""
        return await self._plan(await self._in_thread(self._load, self._path))

    async def apply(self, by: str, comment: str = "", expect: str = "") -> tuple[Plan, Version]:
        """Run what is on disk; raises ConfigError or BrokerError, and then what ran goes on.

        `expect`: the digest of the files that were planned; others are not applied.
        """
        return await self._alone(self._apply, by, comment, expect)

    async def rollback(self, number: int | None, by: str, comment: str = "") -> tuple[Plan, Version]:
        """Run an earlier version, by default the one before; raises ConfigError or BrokerError, and then what runs goes on."""
        return await self._alone(self._rollback, number, by, comment)

    async def versions(self) -> list[Version]:
        """Return the versions that are kept, oldest first."""
        kept: list[Version] = await self._in_thread(self._versions.all)
        return kept

    async def status(self) -> ConfigurationStatus:
        """Return what runs, and which files are other on disk."""
        await self._look()
        version = self.version
        if version is None:
            return ConfigurationStatus(0, self.config.digest, 0.0, "")
        return ConfigurationStatus(
            version.number, version.digest, version.at, version.by, version.comment, version.of, tuple(self._found), str(self._path)
        )

    async def refresh(self) -> None:
        """Bring the gauge of the drift up to date."""
        await self._look()

    async def poll(self) -> None:
        """Apply files that have changed, where the configuration wants that, once they have been the same for two looks."""
        before = self._polled
        await self._look()
        self._polled = self._found
        if self.config.reload != "on_change" or not self._found or self._found != before or self._found == self._seen:
            return
        self._seen = self._found
        await self.apply_for("file change")

    async def apply_for(self, by: str) -> None:
        """Apply where nobody waits for the answer: what is wrong is logged, each problem with its place."""
        try:
            await self.apply(by)
        except ConfigError as error:
            for problem in error.problems:
                self._log.error(
                    "configuration not applied",
                    file=problem.file,
                    line=problem.line,
                    what=f"{problem.where} {problem.what}".strip(),
                    instead=problem.instead,
                )
        except Exception as error:
            self._log.failure("configuration not applied", error)

    async def end(self) -> None:
        """Wait for a change that is under way, and begin none any more."""
        if self.version is not None:
            await self._lock.acquire()
        await self._changeover.finished()

    async def _alone(self, call: Callable[..., Any], *args: Any) -> tuple[Plan, Version]:
        await self._lock.acquire()
        try:
            done: tuple[Plan, Version] = await call(*args)
            return done
        finally:
            await self._look()
            self._lock.release()

    async def _apply(self, by: str, comment: str, expect: str) -> tuple[Plan, Version]:
        candidate: Config = await self._in_thread(self._load, self._path)
        if expect and candidate.digest != expect:
            raise BrokerError("the files have changed since they were planned: look at `broker plan` again")
        return await self._change(candidate, Version(0, candidate.digest, self._now(), by, comment))

    async def _rollback(self, number: int | None, by: str, comment: str) -> tuple[Plan, Version]:
        running = self.version
        if running is None:
            raise BrokerError("the broker is starting")
        call = (self._versions.before, running) if number is None else (self._versions.get, number)
        wanted: Version = await self._in_thread(*call)
        candidate: Config = await self._in_thread(self._load, self._versions.channels(wanted))
        if candidate.digest != wanted.digest:
            raise BrokerError(f"version {wanted.number} cannot be taken up again: its files are not what they were")
        left = await self._in_thread(left_behind, self._path, candidate.sources)
        return await self._change(candidate, Version(0, candidate.digest, self._now(), by, comment, wanted.of or wanted.number, left))

    async def _change(self, candidate: Config, version: Version) -> tuple[Plan, Version]:
        plan = await self._plan(candidate)
        if not plan.changes and self.version is not None:
            return plan, self.version
        if plan.refusals:
            raise ConfigError(plan.refusals)
        numbered = replace(version, number=await self._in_thread(self._versions.next_number))
        staged = await self._in_thread(self._versions.stage, candidate, numbered)
        try:
            await self._changeover.run(self.config, candidate)
        except BaseException:
            await self._in_thread(self._versions.discard, staged)
            raise
        self.config = candidate
        self._runs(staged.version)
        self._changed(candidate)
        self._log.info("configuration applied", version=staged.version.number, digest=candidate.digest, by=version.by)
        try:
            await self._in_thread(self._versions.commit, staged)
        except BrokerError as error:  # it runs, and that is what was asked for
            self._log.failure("version not kept", error)
        await self._look()
        self._seen = self._found
        return plan, staged.version

    async def _plan(self, candidate: Config) -> Plan:
        running = self.config
        old, new = await self._in_thread(self._outline, running.sources), await self._in_thread(self._outline, candidate.sources)
        counts: dict[str, tuple[int, int]] = await self._db.read("queues.held", queues.held)
        held = {name: Held(*one) for name, one in counts.items()}
        touched = {
            (section, name)
            for section in ("listeners", "destinations")
            for name in changed(getattr(running, section), getattr(candidate, section))
        }
        plan = Plan(running.digest, candidate.digest, changed_files(old.files, new.files), compare(old, new), warnings=candidate.warnings)
        plan = with_secrets(plan, touched, _rewritten(running.sources, candidate.sources))
        connections = self._connections()
        return replace(plan, effects=effects(plan.items, connections, held), refusals=refusals(plan.items, held, str(candidate.file)))

    def _runs(self, version: Version) -> None:
        self.version = version
        self._metrics.configuration.clear()
        self._metrics.configuration.labels(str(version.number), version.digest).set(1)

    async def _look(self) -> None:
        self._found = await self._in_thread(differing, self._path, self.config.sources)
        self._metrics.configuration_drift.set(len(self._found))


def left_behind(path: Path, sources: Sequence[Source]) -> str:
    """Return what tells the folder of a channels file, as it is, among all that differ from these files; "" when it does not; blocks."""
    found = differing(path, [source for source in sources if source.role != "secret"])
    return fingerprint(found) if found else ""


def chosen(path: Path, versions: Versions) -> Path:
    """Return the channels file to start on: this one, unless a rollback has left the very files behind that are still there; blocks."""
    latest = versions.latest()
    if latest is None or not latest.instead_of:
        return path
    try:
        return versions.channels(latest) if left_behind(path, versions.sources(latest)) == latest.instead_of else path
    except BrokerError:  # the version is damaged
        return path


def _rewritten(old: Sequence[Source], new: Sequence[Source]) -> list[str]:
    """Return the secrets that say something else."""
    before, after = ({one.name: one.text for one in side if one.role == "secret"} for side in (old, new))
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
