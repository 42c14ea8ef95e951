"""The spool: DICOM objects on disk under names that the broker made, durable before anyone is told."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.errors import StoreError
from broker.store.durable import sync

NAME = re.compile(r"\d{8}/[0-9a-f]{32}\.dcm")
PART = ".part"
OWNER = ".owner"  # of the file beside the folder that is locked while a broker uses it, and names the store its objects belong to
MOST_PIECES = 1024  # of one writev: IOV_MAX
CHUNK = 1 << 20  # bytes read at once for the digest
HOPS = 2  # thread calls at one moment; the next ones take along all that waits

Piece = bytes | bytearray | memoryview
Finished = tuple[str, int, str]  # name, size in bytes, digest in hex
Defer = Callable[..., Deferred[Any]]  # deferToThread: calls a function with its arguments on another thread


@dataclass(slots=True, eq=False)
class _Waiting:
    name: str
    descriptor: int
    skip: int
    fired: Deferred[Finished] = field(default_factory=Deferred)


class SpoolFile:
    """One object being written; nobody sees it before `finish` has fired."""

    def __init__(self, spool: Spool, name: str, descriptor: int) -> None:
        self._spool = spool
        self._descriptor = descriptor
        self.name = name
        self.size = 0  # bytes written

    def write(self, pieces: Sequence[Piece]) -> None:
        """Append the pieces; raises StoreError when the disk does not take them, and then the file is gone."""
        try:
            for at in range(0, len(pieces), MOST_PIECES):
                self._write(pieces[at : at + MOST_PIECES])
        except OSError as error:
            self.abort()
            raise StoreError(f"spool: {error.strerror}") from error

    def _write(self, pieces: Sequence[Piece]) -> None:
        written = os.writev(self._descriptor, pieces)
        self.size += written
        left = sum(map(len, pieces)) - written  # a piece is of bytes, so its length is its size
        if left:
            rest = memoryview(b"".join(pieces))[written:]
            while rest:
                written = os.write(self._descriptor, rest)
                self.size += written
                rest = rest[written:]

    def finish(self, skip: int = 0) -> Deferred[Finished]:
        """Fire with (name, size, SHA-256) once the file is durable under its name; fails with StoreError.

        The digest leaves out the first `skip` bytes (a file's preamble and meta information, which are ours).
        """
        descriptor, self._descriptor = self._descriptor, -1
        return self._spool._finish(_Waiting(self.name, descriptor, skip))

    def abort(self) -> None:
        """Remove what was written; harmless after `finish` or a second time."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            with suppress(OSError):  # of a disk that takes nothing more; the next start sweeps it
                self._spool.path(self.name, part=True).unlink(missing_ok=True)


class Spool:
    """A folder of objects, one sub-folder per day (UTC)."""

    def __init__(self, path: str | Path, defer: Defer, now: Callable[[], float] = time.time) -> None:
        self._path = Path(path)
        self._defer = defer
        self._now = now
        self._waiting: list[_Waiting] = []
        self._hops = 0
        self._made: set[str] = set()  # day folders that are known to be durable
        self._lock: int | None = None
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync(self._path.parent)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error

    def claim(self, store: str) -> bool:
        """Keep other processes out, and return whether the objects here are those of this store, by its identity.

        An empty folder becomes the store's. In one that another store has filled, what this one does not name may still be owed to
        somebody. Raises StoreError when another broker uses the folder.
        """
        try:
            self._lock = os.open(f"{self._path}{OWNER}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            owner = os.pread(self._lock, 64, 0).decode("ascii", "replace")
            if not owner and next(self.names(), None) is None:
                os.pwrite(self._lock, store.encode(), 0)
                os.fsync(self._lock)
                sync(self._path.parent)
                owner = store
        except BlockingIOError as error:
            raise StoreError(f"{self._path}: another broker is using this folder; give this one its own data folder") from error
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        return owner == store

    def release(self) -> None:
        """Let the next process in."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def begin(self) -> SpoolFile:
        """Open a new object; raises StoreError."""
        day = time.strftime("%Y%m%d", time.gmtime(self._now()))
        name = f"{day}/{uuid.uuid4().hex}.dcm"
        part = f"{self._path}/{name}{PART}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            if day not in self._made:
                self._make(day)
            try:
                descriptor = os.open(part, flags, 0o600)
            except FileNotFoundError:  # somebody tidied the folder away
                self._make(day)
                descriptor = os.open(part, flags, 0o600)
        except OSError as error:
            raise StoreError(f"spool: {error.strerror}") from error
        return SpoolFile(self, name, descriptor)

    def open(self, name: str) -> BinaryIO:
        """Open a finished object for reading; raises FileNotFoundError, or ValueError for a name that is not the spool's."""
        return self.path(name).open("rb")

    def path(self, name: str, *, part: bool = False) -> Path:
        """Return where an object lies; raises ValueError for a name that the spool has not made."""
        if not NAME.fullmatch(name):
            raise ValueError("not a name of the spool")
        return self._path / (name + PART if part else name)

    def remove(self, name: str) -> None:
        """Remove a finished object; one that is gone already is no error, and one that cannot go is left to the next sweep."""
        path = self.path(name)
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def days(self) -> list[str]:
        """Return the day folders, oldest first."""
        return sorted(entry.name for entry in os.scandir(self._path) if entry.is_dir() and re.fullmatch(r"\d{8}", entry.name))

    def names(self, day: str = "") -> Iterator[str]:
        """Yield the names of the finished objects, of one day when given."""
        for folder in self._folders(day):
            for entry in os.scandir(self._path / folder):
                if NAME.fullmatch(name := f"{folder}/{entry.name}"):
                    yield name

    def sweep(self, used: Container[str] | None, day: str = "") -> int:
        """Remove what a crash has left: unfinished files, and finished ones that are not `used` (None: all are); return how many.

        To be called before anything is received, for it takes every unfinished file for a leftover.
        """
        swept = 0
        for folder in self._folders(day):
            for entry in list(os.scandir(self._path / folder)):
                name = f"{folder}/{entry.name}"
                unfinished = name.endswith(PART) and NAME.fullmatch(name.removesuffix(PART))
                if unfinished or (used is not None and NAME.fullmatch(name) and name not in used):
                    with suppress(OSError):  # on a disk that takes nothing more; objects are refused there, messages are not
                        os.unlink(entry.path)
                        swept += 1
        return swept

    def free_bytes(self) -> int:
        """Return the bytes that may still be written to the spool's disk."""
        return free_bytes(self._path)

    def _folders(self, day: str) -> list[str]:
        return [folder for folder in self.days() if day in ("", folder)]

    def _make(self, day: str) -> None:
        (self._path / day).mkdir(mode=0o700, exist_ok=True)
        sync(self._path)  # also when it was there: a crash may have come between
        self._made.add(day)

    def _finish(self, waiting: _Waiting) -> Deferred[Finished]:
        self._waiting.append(waiting)
        self._hop()
        return waiting.fired

    def _hop(self) -> None:
        if self._waiting and self._hops < HOPS:
            batch, self._waiting = self._waiting, []
            self._hops += 1
            self._defer(_settle, self._path, batch).addBoth(self._landed, batch)

    def _landed(self, results: list[Finished | OSError] | Failure, batch: list[_Waiting]) -> None:
        self._hops -= 1
        self._hop()
        for at, waiting in enumerate(batch):
            result = results[at] if isinstance(results, list) else results.value
            if isinstance(result, tuple):
                waiting.fired.callback(result)
            else:
                waiting.fired.errback(StoreError(f"spool: {getattr(result, 'strerror', None) or type(result).__name__}"))


def _settle(root: Path, batch: list[_Waiting]) -> list[Finished | OSError]:
    """Make a batch of files durable; on a thread. One that fails fails alone and leaves nothing behind."""
    results: list[Finished | OSError] = []
    for waiting in batch:
        try:
            results.append(_file(root, waiting))
        except OSError as error:
            with suppress(OSError):
                (root / (waiting.name + PART)).unlink(missing_ok=True)
            results.append(error)
        finally:
            os.close(waiting.descriptor)
    for day in {waiting.name[:8] for waiting in batch}:
        try:
            sync(root / day)
        except OSError as error:
            results = [error if waiting.name[:8] == day else result for waiting, result in zip(batch, results, strict=True)]
    return results


def _file(root: Path, waiting: _Waiting) -> Finished:
    os.fsync(waiting.descriptor)
    size = os.fstat(waiting.descriptor).st_size
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(CHUNK, max(size, 1))))
    at = waiting.skip
    while count := os.preadv(waiting.descriptor, [buffer], at):
        digest.update(buffer[:count])
        at += count
    final = root / waiting.name
    os.rename(f"{final}{PART}", final)
    return waiting.name, size, digest.hexdigest()


def free_bytes(path: str | Path) -> int:
    """Return the bytes that may still be written to the disk that holds a path."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
