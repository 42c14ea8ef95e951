"""Batches: FHS, BHS, messages, BTS, FTS (HL7 v2.5.1, 2.10.3), cut without a copy of the whole and without losing a byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_MARK = b"\xef\xbb\xbf"  # byte order mark
_FIRST = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*[FB]HS[!-/:-@\[-`{-~]")
# a segment begins a line; what follows its name must be able to be a field separator, or the end of a trailer
_BEGIN = re.compile(rb"(?:\A\xef\xbb\xbf|\A|(?<=[\r\n]))(?:(FHS|BHS|MSH)(?=[!-/:-@\[-`{-~])|(BTS|FTS)(?=[!-/:-@\[-`{-~\r\n]|\Z))")
_LINE_END = re.compile(rb"[\r\n]")


class Part(NamedTuple):
    """One piece of a batch; the pieces in their order are the whole, byte for byte. `kind` is "" for what belongs to nothing."""

    kind: str  # FHS, BHS, MSH, BTS, FTS
    raw: bytes


def is_batch(raw: bytes) -> bool:
    """Return whether the first segment is a file or batch header."""
    return _FIRST.match(raw) is not None


def parts(raw: bytes) -> Iterator[Part]:
    """Yield the headers, messages and trailers, each with its line ends."""
    kind, begin = "", 0
    for match in _BEGIN.finditer(raw):
        if match.start() > begin:
            yield Part(kind, raw[begin : match.start()])
        kind, begin = (match[1] or match[2]).decode(), match.start()
    if begin < len(raw):
        yield Part(kind, raw[begin:])


@dataclass(slots=True)
class Batch:
    """The messages between one BHS and its BTS, and their answers."""

    header: bytes  # BHS as it came; b"" when there was none
    count: int = 0  # messages
    answers: list[bytes] = field(default_factory=list)
    fault: str = ""  # what is not as the trailer says


@dataclass(slots=True)
class Tally:
    """Follows the parts of a file or batch with `see`, and puts its answer together."""

    header: bytes = b""  # FHS
    batches: list[Batch] = field(default_factory=list)
    fault: str = ""  # what is not as FTS says, or belongs to nothing
    _open: bool = False  # a batch has begun and not ended
    _ended: bool = False  # FTS was seen

    def see(self, part: Part) -> Batch | None:
        """Take note of a part; return the batch that the answer of a message belongs to."""
        if part.kind == "MSH":
            if not self._open:
                self._begin(b"")
            self.batches[-1].count += 1
            return self.batches[-1]
        if part.kind == "FHS":
            self._fault("a second FHS" if self.header else "")
            self.header = self.header or part.raw
        elif part.kind == "BHS":
            self._end("no BTS ends the batch")
            self._begin(part.raw)
        elif part.kind == "BTS":
            if not self._open:
                self._begin(b"")
            self._end(_miscount("BTS-1", part.raw, self.batches[-1].count, "messages"))
        elif part.kind == "FTS":
            self._end("no BTS ends the batch")
            self._ended = True
            self._fault(_miscount("FTS-1", part.raw, len(self.batches), "batches"))
        elif part.raw.strip():
            self._fault("bytes that belong to no message")
        return None

    def close(self) -> list[str]:
        """End what is open, and return what is wrong with headers and trailers, one sentence each; it holds no patient data."""
        self._end("no BTS ends the batch")
        if self.header and not self._ended:
            self._fault("no FTS ends the file")
        return [text for text in (*(batch.fault for batch in self.batches), self.fault) if text]

    def answer(self, now: str, control_id: str) -> bytes:
        """Return a batch of answers for each batch, in its own delimiters (2.10.3.3).

        now: HL7 timestamp; control_id: FHS-11 or BHS-11 of the answer, of each batch in a file with its number.
        """
        lines = [_header(self.header, b"FHS", now, control_id)] if self.header else []
        several = len(self.batches) > 1 or bool(self.header)
        for number, batch in enumerate(self.batches, 1):
            header = batch.header or self.header or b"BHS|^~\\&"
            lines.append(_header(header, b"BHS", now, f"{control_id}.{number}" if several else control_id))
            lines += batch.answers
            lines.append(_trailer(header, b"BTS", len(batch.answers), batch.fault))
        if self.header:
            lines.append(_trailer(self.header, b"FTS", len(self.batches), self.fault))
        return b"".join(lines)

    def _begin(self, header: bytes) -> None:
        self.batches.append(Batch(header))
        self._open = True

    def _end(self, fault: str) -> None:
        """End the open batch; messages that no BHS announced need no BTS."""
        if self._open and (self.batches[-1].header or fault.startswith("BTS")):
            self.batches[-1].fault = fault
        self._open = False

    def _fault(self, text: str) -> None:
        self.fault = self.fault or text


def _line(segment: bytes) -> bytes:
    return _LINE_END.split(segment.removeprefix(_MARK), maxsplit=1)[0]


def _fields(segment: bytes) -> list[bytes]:
    line = _line(segment)
    return line.split(line[3:4], 13) if line[3:4] else [line]


def _miscount(name: str, trailer: bytes, found: int, what: str) -> str:
    """Return what is wrong with the count of a trailer; an empty one claims nothing."""
    text = b"".join(_fields(trailer)[1:2]).strip()
    if not text or (text.isdigit() and int(text[:9]) == found):
        return ""
    return f"{name} says {int(text[:9])}, there are {found} {what}" if text.isdigit() else f"{name} is no number"


def _header(header: bytes, name: bytes, now: str, control_id: str) -> bytes:
    """Return FHS or BHS of the answer: sender and receiver exchanged, a control ID of its own, and the one it answers."""
    old = _fields(header)
    old += [b""] * (12 - len(old))
    new = [name, old[1] or b"^~\\&", old[4], old[5], old[2], old[3], now.encode(), b"", old[8], b"", control_id.encode(), old[10]]
    return _joined(header, new)


def _trailer(header: bytes, name: bytes, count: int, comment: str) -> bytes:
    return _joined(header, [name, str(count).encode(), comment.encode()])


def _joined(header: bytes, fields: list[bytes]) -> bytes:
    separator = _line(header)[3:4] or b"|"
    return separator.join(fields).rstrip(separator) + b"\r"
