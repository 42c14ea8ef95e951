"""The configurations that were applied, kept as plain files in the data folder: `configurations/0041/`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

from broker.config.files import read_text
from broker.config.models import Config
from broker.config.options import Registry
from broker.config.outline import outline
from broker.config.sources import CHANNELS, Role, Source
from broker.errors import BrokerError, Problem
from broker.store.durable import sync

MOST = 50  # versions kept; the oldest go first
_RECORD = "version.json"
_FILES = "files"


@dataclass(frozen=True, slots=True)
class Version:
    """One configuration that was applied: by whom, when and why."""

    number: int
    digest: str  # of its files
    at: float  # seconds since the epoch
    by: str  # who asked for it: a user, "start", "SIGHUP", "file change"
    comment: str = ""
    of: int | None = None  # the version that a rollback took up again
    instead_of: str = ""  # fingerprint of what a rollback left behind in the folder of the channels file
    channels: str = f"{_FILES}/{CHANNELS}"  # its channels file, in the folder of the version
    files: Mapping[str, Role] = field(default_factory=dict)  # all of its files but the secrets, from the folder of the channels file


@dataclass(frozen=True, slots=True)
class Staged:
    """A version that is written down and not yet applied."""

    version: Version
    place: Path


class Versions:
    """The versions in one data folder; every method blocks on the disk, and those that write raise BrokerError."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "configurations"

    @classmethod
    def of(cls, channels: Path, environment: Mapping[str, str], registry: Registry) -> Versions:
        """Return those of the broker that a channels file configures, be the file in order or not."""
        text = read_text(channels, CHANNELS)
        sources = () if isinstance(text, Problem) else (Source(CHANNELS, text),)
        return cls(Path(str(outline(sources, environment, registry).settings["data"])))

    def all(self) -> list[Version]:
        """Return every version that is kept, oldest first."""
        found = []
        for path in sorted(self._folder.glob(f"[0-9]*/{_RECORD}"), key=lambda path: int(path.parent.name)):
            try:
                found.append(Version(**json.loads(path.read_text("utf-8"))))
            except (OSError, ValueError, TypeError):
                continue  # not one of ours, or damaged: the others are still good
        return found

    def latest(self) -> Version | None:
        """Return what was applied last, None before the first time."""
        return next(reversed(self.all()), None)

    def get(self, number: int) -> Version:
        """Return a version; raises BrokerError naming those there are."""
        kept = self.all()
        for version in kept:
            if version.number == number:
                return version
        known = f"kept are {kept[0].number} to {kept[-1].number}" if kept else "none is kept yet"
        raise BrokerError(f"there is no version {number}: {known} (see `broker versions`)")

    def before(self, running: Version) -> Version:
        """Return what ran before: the last version with other files, and after a rollback the last before the one taken up again.

        Raises BrokerError when there is none.
        """
        oldest = running.of or running.number
        for version in reversed(self.all()):
            if version.number < oldest and version.digest != running.digest:
                return version
        raise BrokerError(f"nothing is kept that ran before version {running.number} (see `broker versions`)")

    def channels(self, version: Version) -> Path:
        """Return the channels file of a version."""
        return self._folder / f"{version.number:04d}" / version.channels

    def stage(self, config: Config, version: Version) -> Staged:
        """Write a version down without counting it as applied; `commit` does that, `discard` takes it away."""
        files: dict[str, Role] = {source.name: source.role for source in config.sources if source.role != "secret"}
        above = max(PurePosixPath(name).parts.count("..") for name in files)  # so deep that `../` stays inside
        version = replace(version, channels=str(PurePosixPath(_FILES, *["_"] * above, CHANNELS)), files=files)
        place = self._folder / f".{version.number:04d}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            base = (place / version.channels).parent
            for source in config.sources:
                if source.name in files and not Path(source.name).is_absolute():
                    _write(Path(os.path.normpath(base / source.name)), source.text)
            _write(place / _RECORD, json.dumps(asdict(version), indent=2) + "\n")
            for folder, *_ in os.walk(place):
                sync(Path(folder))
        except OSError as error:
            shutil.rmtree(place, ignore_errors=True)
            raise BrokerError(f"{error.filename or place}: {error.strerror}") from error
        return Staged(version, place)

    def commit(self, staged: Staged) -> None:
        """Count a staged version as applied, and let go of the oldest beyond `MOST`."""
        try:
            staged.place.rename(self._folder / f"{staged.version.number:04d}")
            sync(self._folder)
        except OSError as error:
            raise BrokerError(f"{staged.place}: {error.strerror}") from error
        for old in self.all()[:-MOST]:
            shutil.rmtree(self._folder / f"{old.number:04d}", ignore_errors=True)

    def discard(self, staged: Staged) -> None:
        """Take a staged version away."""
        shutil.rmtree(staged.place, ignore_errors=True)

    def next_number(self) -> int:
        """Return the number of the next version."""
        latest = self.latest()
        return latest.number + 1 if latest else 1

    def sources(self, version: Version) -> tuple[Source, ...]:
        """Return the files of a version; raises BrokerError."""
        base = self.channels(version).parent
        try:
            return tuple(Source(name, (base / name).read_text("utf-8"), role) for name, role in version.files.items())
        except OSError as error:
            raise BrokerError(f"{error.filename}: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
