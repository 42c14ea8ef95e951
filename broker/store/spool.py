"""The spool: DICOM objects on disk under names that the broker made, durable before anyone is told."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from broker.errors import StoreError
from broker.store.durable import sync

NAME = re.compile(r"\d{8}/[0-9a-f]{32}\.dcm")
PART = ".part"
# of the file beside the folder that is locked while a broker uses it: the store its objects belong to, and the mark of this spool there
OWNER = ".owner"
MOST_PIECES = 1024  # of one writev: IOV_MAX
HELD = 1 << 16  # bytes of an object that stay in memory until it is finished; a larger one goes to the disk as it comes
HOPS = 2  # thread calls at one moment; the next ones take along all that waits

Piece = bytes | bytearray | memoryview
Finished = tuple[str, int, str]  # name, size in bytes, digest in hex
Defer = Callable[..., Deferred[Any]]  # deferToThread: calls a function with its arguments on another thread


@dataclass(slots=True, eq=False)
class _Waiting:
    name: str
    descriptor: int  # of what is written under the unfinished name; -1: nothing is, `held` is all
    held: Sequence[Piece]
    finished: Finished
    fired: Deferred[Finished] = field(default_factory=Deferred)


class SpoolFile:
    """One object being written; nobody sees it before `finish` has fired. A small one waits in memory until then."""

    def __init__(self, spool: Spool, name: str, head: bytes, digest: Any) -> None:
        self._spool = spool
        self._descriptor = -1
        self._held: list[Piece] = [head]
        self._digest = digest
        self.name = name
        self.size = len(head)  # bytes written

    def write(self, pieces: Sequence[Piece]) -> None:
        """Append the pieces; raises StoreError when the disk does not take them, and then the file is gone."""
        for piece in pieces:
            self._digest.authenticate_additional_data(piece)
        self.size += sum(map(len, pieces))  # a piece is of bytes, so its length is its size
        if self._descriptor < 0 and self.size <= HELD:
            self._held += map(bytes, pieces)
            return
        try:
            if self._descriptor < 0:
                self._descriptor = _create(self._spool._path, self.name + PART)
                pieces, self._held = [*self._held, *pieces], []
            _append(self._descriptor, pieces)
        except OSError as error:
            self.abort()
            raise StoreError(f"spool: {error.strerror}") from error

    def finish(self, *, durable: bool = True) -> Deferred[Finished]:
        """Fire with (name, size, digest) once the file is there under its name and durable; fails with StoreError.

        The digest leaves out the `head` (a file's preamble and meta information, which are ours). Not `durable`: it may be lost
        when the power fails, and all is done at once.
        """
        descriptor, self._descriptor = self._descriptor, -1
        self._digest.finalize()
        waiting = _Waiting(self.name, descriptor, self._held, (self.name, self.size, self._digest.tag.hex()))
        return self._spool._finish(waiting, durable)

    def abort(self) -> None:
        """Remove what was written; harmless after `finish` or a second time."""
        self._held = []
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
        self.mark = ""  # what tells this spool from others of the same store, once it is claimed
        self._digests = _digests("")
        self.has_room: Callable[[], bool] = lambda: True  # whether a new object may begin
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
            owner, _, self.mark = os.pread(self._lock, 64, 0).decode("ascii", "replace").partition("\n")
            if not owner and next(self.names(), None) is None:
                owner = store
            if not self.mark:
                self.mark = secrets.token_hex(8)
                os.pwrite(self._lock, f"{owner}\n{self.mark}".encode(), 0)
                os.fsync(self._lock)
                sync(self._path.parent)
        except BlockingIOError as error:
            raise StoreError(f"{self._path}: another broker is using this folder; give this one its own data folder") from error
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        self._digests = _digests(store)
        return owner == store

    def release(self) -> None:
        """Let the next process in."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def begin(self, head: bytes = b"") -> SpoolFile:
        """Begin a new object with these first bytes, which its digest leaves out; raises StoreError, also when there is no room."""
        if not self.has_room():
            raise StoreError("spool: no room")
        day = time.strftime("%Y%m%d", time.gmtime(self._now()))
        try:
            if day not in self._made:
                self._make(day)
        except OSError as error:
            raise StoreError(f"spool: {error.strerror}") from error
        return SpoolFile(self, f"{day}/{uuid.uuid4().hex}.dcm", head, self._digests.encryptor())

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

    def disk(self) -> tuple[int, int]:
        """Return the bytes that may still be written to the spool's disk, and all that it has."""
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize

    def _folders(self, day: str) -> list[str]:
        return [folder for folder in self.days() if day in ("", folder)]

    def _make(self, day: str) -> None:
        (self._path / day).mkdir(mode=0o700, exist_ok=True)
        sync(self._path)  # also when it was there: a crash may have come between
        self._made.add(day)

    def _finish(self, waiting: _Waiting, durable: bool) -> Deferred[Finished]:
        if durable:
            self._waiting.append(waiting)
            self._hop()
        else:
            self._tell(_settle(self._path, [waiting], False), [waiting])
        return waiting.fired

    def _hop(self) -> None:
        if self._waiting and self._hops < HOPS:
            batch, self._waiting = self._waiting, []
            self._hops += 1
            self._defer(_settle, self._path, batch).addBoth(self._landed, batch)

    def _landed(self, failed: Mapping[str, OSError] | Failure, batch: list[_Waiting]) -> None:
        self._hops -= 1
        self._hop()
        self._tell(dict.fromkeys([one.name for one in batch], failed.value) if isinstance(failed, Failure) else failed, batch)

    def _tell(self, failed: Mapping[str, Any], batch: list[_Waiting]) -> None:
        for waiting in batch:
            error = failed.get(waiting.name)
            if error is None:
                waiting.fired.callback(waiting.finished)
            else:
                waiting.fired.errback(StoreError(f"spool: {getattr(error, 'strerror', None) or type(error).__name__}"))


def _settle(root: Path, batch: list[_Waiting], durable: bool = True) -> Mapping[str, OSError]:
    """Give a batch of files their names and make them durable, and return what went wrong, by name; on a thread.

    One that fails fails alone and leaves nothing behind. The name comes before the sync, so that the sync of the file has written
    it as well, and the one of the folder finds nothing to do where the file system is so kind; no record names a file yet.
    """
    failed: dict[str, OSError] = {}
    for step in (_place, _sync) if durable else (_place,):
        for waiting in batch:
            try:
                if waiting.name not in failed:
                    step(root, waiting)
            except OSError as error:
                failed[waiting.name] = error
    for waiting in batch:
        if waiting.descriptor >= 0:
            os.close(waiting.descriptor)
        for left in (waiting.name, waiting.name + PART) if waiting.name in failed else ():
            with suppress(OSError):
                os.unlink(root / left)
    for day in {waiting.name[:8] for waiting in batch} if durable else ():
        try:
            sync(root / day)
        except OSError as error:
            failed |= {waiting.name: error for waiting in batch if waiting.name[:8] == day}
    return failed


def _place(root: Path, waiting: _Waiting) -> None:
    final = f"{root}/{waiting.name}"
    if waiting.descriptor >= 0:
        os.rename(f"{final}{PART}", final)
    else:
        waiting.descriptor = _create(root, waiting.name)
        _append(waiting.descriptor, waiting.held)


def _sync(root: Path, waiting: _Waiting) -> None:
    os.fdatasync(waiting.descriptor)


def _create(root: Path, name: str) -> int:
    path, flags = f"{root}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:  # somebody tidied the folder away
        os.mkdir(os.path.dirname(path), 0o700)
        sync(root)
        return os.open(path, flags, 0o600)


def _append(descriptor: int, pieces: Sequence[Piece]) -> None:
    for at in range(0, len(pieces), MOST_PIECES):
        some = pieces[at : at + MOST_PIECES]
        written = os.writev(descriptor, some)
        if written < sum(map(len, some)):
            rest = memoryview(b"".join(some))[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]


def _digests(store: str) -> Cipher[modes.GCM]:
    """Return what the digests of a store's objects are made with: AES-GMAC, a tenth of the cost of SHA-256.

    It tells one object from another, and nothing else hangs on it. Its key is the store's own, so that nobody outside can make
    two objects with one digest.
    """
    return Cipher(algorithms.AES(hashlib.blake2b(store.encode(), digest_size=32).digest()), modes.GCM(bytes(12)))


def free_bytes(path: str | Path) -> int:
    """Return the bytes that may still be written to the disk that holds a path."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
