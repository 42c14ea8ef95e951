"""An object of the spool made ready to be sent: a changed header, and the open file behind it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import BinaryIO

from broker.dicom.coerce import prepared
from broker.dicom.dataset import encode_header, read_header
from broker.dicom.files import parse_meta, read_meta
from broker.dicom.splice import splice
from broker.errors import MessageError
from broker.model import Spooled, StoreRequest

_READS = (1 << 14, 1 << 18)  # bytes that most headers fit in, and those with a vendor's private data
_ADVISE = getattr(os, "posix_fadvise", None)  # only where the system has it


@dataclass(slots=True)
class Ready:
    """What stands for the first bytes of a dataset, and the file at the rest of it; who has it closes it."""

    sop_class: str
    sop_instance: str
    syntax: str
    head: bytes
    file: BinaryIO
    begin: int  # offset of the rest

    def rewind(self) -> None:
        """Let it be sent from its beginning."""
        self.file.seek(self.begin)


def ready_at_once(path: str, request: StoreRequest, system: str, now: str) -> Ready | None:
    """Return the object when its header takes no work to speak of, else None; raises OSError and MessageError."""
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by who sends it
    try:
        made = _made(file, request, system, now)
    except BaseException:
        file.close()
        raise
    if made is None:
        file.close()
        return None
    if _ADVISE is not None:  # the system reads on from a cold disk meanwhile
        _ADVISE(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
    head, begin = made
    file.seek(begin)
    spooled = request.spooled
    instance = request.changes.get("SOPInstanceUID") or spooled.sop_instance
    return Ready(spooled.sop_class, instance, spooled.transfer_syntax, head, file, begin)


def _made(file: BinaryIO, request: StoreRequest, system: str, now: str) -> tuple[bytes, int] | None:
    if not request.changes:
        return b"", read_meta(file).offset
    if request.reissue:  # its references follow it, wherever they stand
        return None
    for most in _READS:
        data = os.pread(file.fileno(), most, 0)
        offset = parse_meta(data).offset
        found = splice(
            data[offset:],
            request.spooled.transfer_syntax,
            request.changes,
            whole=len(data) < most,
            reason=request.reason,
            system=system,
            now=now,
            removals=request.removals,
            source=request.source,
        )
        if found is not None:
            return found[0], offset + found[1]
        if len(data) < most:
            break
    return None


def ready_by_library(path: str, request: StoreRequest, system: str, now: str) -> Ready:
    """Return the object with its header decoded, changed and encoded, which takes milliseconds; raises OSError and MessageError."""
    spooled = request.spooled
    header, offset = read_header(path)
    header = prepared(header, request, system=system, now=now)
    head = encode_header(header, spooled.transfer_syntax)
    instance = str(header.get("SOPInstanceUID") or spooled.sop_instance)
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by who sends it
    file.seek(offset)
    return Ready(spooled.sop_class, instance, spooled.transfer_syntax, head, file, offset)


def made_of(spooled: Spooled, path: str, syntax: str) -> Spooled:
    """Return what a transcoded file holds: an object of its own when something was lost; raises OSError and MessageError."""
    with open(path, "rb") as file:
        meta = read_meta(file)
    if meta.transfer_syntax != syntax:
        raise MessageError("TransferSyntaxUID", "the transcoded object is in another transfer syntax")
    return replace(spooled, transfer_syntax=syntax, sop_instance=meta.sop_instance)
