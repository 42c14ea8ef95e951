"""MLLP framing (HL7 v2 transport, minimal lower layer protocol): VT, message, FS CR."""

from __future__ import annotations

from typing import Any, NamedTuple

VT, END = b"\x0b", b"\x1c\r"
STRIKES = 16  # faults in a row after which a peer is given up


class Frame(NamedTuple):
    """The content of one frame."""

    raw: bytes


class Fault(NamedTuple):
    """A breach of the framing; `detail` counts bytes and shows none.

    no_start: a message without a start block · garbage: bytes between frames · no_end: a start block inside a frame, the
    earlier message is dropped · too_long: over the limit · too_many: one fault after the other · truncated: the connection
    ended inside a frame. After a fatal one the connection must be closed; everything that still arrives is discarded.
    """

    name: str
    detail: str
    fatal: bool = False


class Framer:
    """Cuts a stream into frames, whatever its fragments; holds no more than `limit` bytes, in linear time."""

    __slots__ = ("_buffer", "_dead", "_inside", "_limit", "_outside", "_strikes")

    def __init__(self, limit: int) -> None:
        self._limit = limit  # bytes of one message
        self._buffer = bytearray()  # of the frame that is open, without its start block
        self._inside = False
        self._outside = 0  # bytes seen since the last frame, line ends apart
        self._strikes = 0
        self._dead = False

    @property
    def open(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._inside

    def receive(self, data: bytes) -> list[Frame | Fault]:
        """Return the frames and faults that `data` completes."""
        between = not (self._inside or self._outside or self._dead)
        if between and data[:1] == VT and 0 < data.find(END) == len(data) - 2 <= self._limit + 1 and data.find(VT, 1) < 0:
            self._strikes = 0  # one whole frame in one read: what nearly every read is
            return [Frame(data[1:-2])]
        found: list[Frame | Fault] = []
        position = 0
        while position < len(data) and not self._dead:
            position = self._within(data, position, found) if self._inside else self._between(data, position, found)
        return found

    def end(self) -> list[Fault]:
        """Return what the end of the connection leaves unfinished; a peer that sent nothing made no fault."""
        found: list[Any] = []
        if not self._dead and self._inside:
            self._fault(found, "truncated", f"the connection ended {len(self._buffer)} bytes into a message")
        elif not self._dead and self._outside:
            self._fault(found, "garbage", f"{self._outside} bytes outside a frame")
        self._dead = True
        self._buffer.clear()
        return found

    def _between(self, data: bytes, position: int, found: list[Frame | Fault]) -> int:
        """Skip to the next start block."""
        start = data.find(VT, position)
        stop = len(data) if start < 0 else start
        skipped = data[position:stop].translate(None, b"\r\n")  # some senders end a frame with one line end too many
        if skipped:
            self._skip(skipped, found)
        if start < 0 or self._dead:
            return stop
        if self._outside:
            self._fault(found, "garbage", f"{self._outside} bytes outside a frame")
        self._inside, self._outside = True, 0
        return start + 1

    def _skip(self, skipped: bytes, found: list[Frame | Fault]) -> None:
        """Count bytes outside a frame; an end block among them is a message that had no start."""
        *messages, rest = skipped.split(END[:1])
        for message in messages:
            if not self._dead and not self._count(len(message), found):
                self._fault(found, "no_start", f"a message of {self._outside} bytes without a start block")
                self._outside = 0
        if not self._dead:
            self._count(len(rest), found)

    def _count(self, more: int, found: list[Frame | Fault]) -> bool:
        self._outside += more
        if self._outside > self._limit:
            self._fault(found, "too_long", f"more than {self._limit} bytes outside a frame", fatal=True)
        return self._dead

    def _within(self, data: bytes, position: int, found: list[Frame | Fault]) -> int:
        """Take what belongs to the open frame; return where the next thing begins."""
        buffer = self._buffer
        if buffer[-1:] == END[:1] and data[position] == END[1]:  # the end block came in two reads
            del buffer[-1]
            return self._complete(b"", position + 1, found)
        end = data.find(END, position)
        start = data.find(VT, position, end if end >= 0 else len(data))
        stop = start if start >= 0 else end if end >= 0 else len(data)
        size = len(buffer) + stop - position
        # one byte more may wait: the first of the end block
        if size > self._limit + (1 if stop != end else 0):
            self._fault(found, "too_long", f"a message of more than {self._limit} bytes", fatal=True)
            return stop
        if start >= 0:
            self._fault(found, "no_end", f"a message of {size} bytes without an end block")
            buffer.clear()
            return start + 1
        if end >= 0:
            return self._complete(data[position:end], end + 2, found)
        buffer += data[position:]
        return stop

    def _complete(self, last: bytes, after: int, found: list[Frame | Fault]) -> int:
        found.append(Frame(bytes(self._buffer) + last))
        self._buffer.clear()
        self._inside, self._strikes = False, 0
        return after

    def _fault(self, found: list[Frame | Fault], name: str, detail: str, *, fatal: bool = False) -> None:
        self._strikes += 1
        if self._strikes > STRIKES and not fatal:
            name, detail, fatal = "too_many", f"{STRIKES} faults without a message between them", True
        found.append(Fault(name, detail, fatal))
        if fatal:
            self._dead = True
            self._buffer.clear()


def frame(raw: bytes) -> bytes:
    """Return `raw` in a frame."""
    return VT + raw + END
