"""Files on disk: found, read, moved and written so that a crash leaves each whole and in one place. Everything here blocks."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from heapq import nsmallest
from itertools import count
from pathlib import Path
from typing import NamedTuple

from broker.store.durable import sync

SHA256 = ".sha256"
LONGEST = 200  # characters of a file name; file systems take 255 bytes, and companions add to it


class Unfit(Exception):
    """A file that cannot be taken in, and why; free of patient data."""


class Found(NamedTuple):
    """One file of a folder, as it was seen."""

    name: str
    size: int  # bytes
    changed: int  # nanoseconds since the epoch


def scan(folder: Path, pattern: str, most: int, companion: str = "") -> list[Found]:
    """Return the first files by name that fit the pattern, and have a companion of that ending when one is asked for; raises OSError."""
    with os.scandir(folder) as entries:
        return nsmallest(most, _fitting(entries, pattern, companion))


def _fitting(entries: Iterator[os.DirEntry[str]], pattern: str, companion: str) -> Iterator[Found]:
    for entry in entries:
        name = entry.name
        if name[0] == "." or not fnmatchcase(name, pattern) or (companion and name.endswith(companion)):
            continue
        with suppress(FileNotFoundError):  # gone meanwhile
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and (not companion or os.path.exists(entry.path + companion)):
                yield Found(name, found.st_size, found.st_mtime_ns)


def read(path: Path, limit: int, checked: bool = False) -> bytes:
    """Return the content, compared to its SHA-256 companion when `checked`; raises Unfit, or OSError when another try may help."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise Unfit("it may not be read") from None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unfit("not a file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise Unfit(f"more than {limit} bytes")
    if checked:
        with open(f"{path}{SHA256}", "rb") as file:
            said = file.read(1024).split()[:1]
        if not said or said[0].lower().decode("latin-1") != hashlib.sha256(content).hexdigest():
            raise Unfit("the checksum is another one")
    return content


def write(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when it is whole and durable, in place of an earlier one; raises OSError."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
    sync(path.parent)


def move(path: Path, folder: Path, why: bytes = b"") -> None:
    """Move a file with its companion into a folder, under a name that is free there; `why` is written beside it before. Raises OSError."""
    target = free(folder, path.name)
    if why:
        write(folder / f"{target.name}.why", why)
    os.rename(path, target)
    with suppress(FileNotFoundError):
        os.rename(f"{path}{SHA256}", f"{target}{SHA256}")
    sync(folder)
    sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file with its companion; raises OSError."""
    path.unlink()
    with suppress(FileNotFoundError):
        os.unlink(f"{path}{SHA256}")
    sync(path.parent)


def free(folder: Path, name: str) -> Path:
    """Return a path in the folder where nothing is: of this name, or numbered before its ending."""
    path = folder / name
    numbers = count(1)
    while os.path.lexists(path):
        stem, dot, ending = name.rpartition(".")
        path = folder / (f"{stem}.{next(numbers)}{dot}{ending}" if stem else f"{name}.{next(numbers)}")
    return path


def holds(path: Path, content: bytes) -> bool:
    """Return whether a file with exactly this content is there."""
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False
