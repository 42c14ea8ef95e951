"""MLLP framing (HL7 v2 transport, minimal lower layer protocol): VT, message, FS CR."""

from __future__ import annotations

from typing import NamedTuple

VT, FS, END = b"\x0b", b"\x1c", b"\x1c\r"
STRIKES = 16  # faults in a row after which a peer is given up
TAIL = 40  # last bytes that a fault shows, masked

_MASK = bytes(0x78 if byte >= 0x80 or chr(byte).isalpha() else 0x39 if chr(byte).isdigit() else byte for byte in range(256))
_CONTROLS = {0x0B: "<VT>", 0x1C: "<FS>", 0x0D: "<CR>", 0x0A: "<LF>", 0x09: "<TAB>"}
_SHOWN = {code: _CONTROLS.get(code, f"<{code:02X}>") for code in (*range(32), 127)}


class Frame(NamedTuple):
    """The content of one frame."""

    raw: bytes


class Fault(NamedTuple):
    """A breach of the framing; `detail` counts bytes and `tail` shows the last of them masked: letters as x, digits as 9.

    no_start: a message without a start block · garbage: bytes between frames · no_end: a start block inside a frame, the
    earlier message is dropped · too_long: over the limit · too_many: one fault after the other · truncated: the connection
    ended inside a frame. After a fatal one the connection must be closed; everything that still arrives is discarded.
    """

    name: str
    detail: str
    fatal: bool = False
    tail: str = ""


class Framer:
    """Cuts a stream into frames, whatever its fragments; holds no more than `limit` bytes, in linear time.

    An end block without its CR ends a frame too where a start block follows it, where the connection ends, or when its peer
    falls silent and the caller says so (`pause`).
    """

    __slots__ = ("_buffer", "_dead", "_inside", "_last", "_limit", "_outside", "_strikes")

    def __init__(self, limit: int) -> None:
        self._limit = limit  # bytes of one message
        self._buffer = bytearray()  # of the frame that is open, without its start block
        self._inside = False
        self._outside = 0  # bytes seen since the last frame, line ends apart
        self._last = b""  # of these, the last
        self._strikes = 0
        self._dead = False

    @property
    def open(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._inside

    @property
    def may_be_whole(self) -> bool:
        """Whether the open frame lacks but the CR of its end block, so that a pause would end it."""
        return self._inside and self._buffer[-1:] == FS

    def pause(self) -> list[Frame | Fault]:
        """Return the frame whose end block has no CR, when nothing followed it for a while."""
        found: list[Frame | Fault] = []
        if self.may_be_whole:
            del self._buffer[-1]
            self._complete(0, found)
        return found

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

    def end(self) -> list[Frame | Fault]:
        """Return what the end of the connection completes or leaves unfinished; a peer that sent nothing made no fault."""
        found = self.pause()
        if not self._dead and self._inside:
            detail = f"the connection ended {len(self._buffer)} bytes into a message"
            self._fault(found, "truncated", detail, self._buffer[-TAIL:])
        elif not self._dead and self._outside:
            self._fault(found, "garbage", f"{self._outside} bytes outside a frame", self._last)
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
            self._fault(found, "garbage", f"{self._outside} bytes outside a frame", self._last)
        self._inside, self._outside, self._last = True, 0, b""
        return start + 1

    def _skip(self, skipped: bytes, found: list[Frame | Fault]) -> None:
        """Count bytes outside a frame; an end block among them is a message that had no start."""
        *messages, rest = skipped.split(FS)
        for message in messages:
            if not self._dead and not self._count(message, found):
                self._fault(found, "no_start", f"a message of {self._outside} bytes without a start block", self._last)
                self._outside, self._last = 0, b""
        if not self._dead:
            self._count(rest, found)

    def _count(self, more: bytes, found: list[Frame | Fault]) -> bool:
        room = self._limit - self._outside
        self._outside += len(more)
        self._last = (self._last + more[:room][-TAIL:])[-TAIL:]
        if self._outside > self._limit:
            self._fault(found, "too_long", f"more than {self._limit} bytes outside a frame", self._last, fatal=True)
        return self._dead

    def _within(self, data: bytes, position: int, found: list[Frame | Fault]) -> int:
        """Take what belongs to the open frame; return where the next thing begins."""
        buffer = self._buffer
        if buffer[-1:] == FS and data[position] == END[1]:  # the end block came in two reads
            del buffer[-1]
            return self._complete(position + 1, found)
        end = data.find(END, position)
        start = data.find(VT, position, end if end >= 0 else len(data))
        stop = start if start >= 0 else end if end >= 0 else len(data)
        size = len(buffer) + stop - position
        # one byte more may wait: the first of the end block
        if size > self._limit + (1 if stop != end else 0):
            buffer += data[position : max(position, position + self._limit - len(buffer))]
            self._fault(found, "too_long", f"a message of more than {self._limit} bytes", buffer[: self._limit][-TAIL:], fatal=True)
            return stop
        if start >= 0:
            buffer += data[position:start]
            if buffer[-1:] == FS:
                del buffer[-1]
                return self._complete(start, found)
            self._fault(found, "no_end", f"a message of {size} bytes without an end block", buffer[-TAIL:])
            buffer.clear()
            return start + 1
        if end >= 0:
            buffer += data[position:end]
            return self._complete(end + 2, found)
        buffer += data[position:]
        return stop

    def _complete(self, after: int, found: list[Frame | Fault]) -> int:
        found.append(Frame(bytes(self._buffer)))
        self._buffer.clear()
        self._inside, self._strikes = False, 0
        return after

    def _fault(self, found: list[Frame | Fault], name: str, detail: str, tail: bytes | bytearray, *, fatal: bool = False) -> None:
        self._strikes += 1
        if self._strikes > STRIKES and not fatal:
            name, detail, fatal = "too_many", f"{STRIKES} faults without a message between them", True
        found.append(Fault(name, detail, fatal, masked(tail)))
        if fatal:
            self._dead = True
            self._buffer.clear()


def masked(content: bytes | bytearray) -> str:
    """Return bytes as a log may show them: letters as x, digits as 9, delimiters as they are, control characters by name."""
    return bytes(content).translate(_MASK).decode("ascii").translate(_SHOWN)


def frame(raw: bytes) -> bytes:
    """Return `raw` in a frame."""
    return VT + raw + END
