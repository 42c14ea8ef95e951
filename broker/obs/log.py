"""The log: one line per event, whitelisted fields only; patient data is left out here and nowhere else.

Three fences stand between patient data and the log. A field whose name is not in `FIELDS` does not get out. A value must be a
short scalar of the shape its field has. An exception is logged by its type and place; its text only when the broker wrote it.
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import structlog
from twisted.python.failure import Failure

from broker.errors import BrokerError

WITHHELD = "[withheld]"

_EVENT = re.compile(r"[a-z][a-z0-9]*(?:[._ -][a-z][a-z0-9]*){0,11}")
_NAME = re.compile(r"[\w.*+-]{1,64}", re.ASCII)  # a name out of the configuration
_ID = re.compile(r"[\w.:/+@-]{1,80}", re.ASCII)  # a number or UID that a system gave
_SENDER = re.compile(r"[\w .:/|@-]{0,80}", re.ASCII)  # MSH-3|MSH-4, an AE title, or who asked for something
_KIND = re.compile(
    r"[A-Z][A-Z0-9]{2}(?:\^[A-Z][A-Z0-9]\d(?:\^[A-Z]{3}_[A-Z0-9]{3})?)?|[CN]-[A-Z-]{2,14}|[a-z_]+(?:\.[a-z_]+)?|"
)  # ORM^O01, C-STORE
_PLACE = re.compile(r"[\w.:*/ <>\[\]()-]{0,600}", re.ASCII)  # an HL7 path, a DICOM keyword, a file and line
_TEXT = re.compile(r"[^\x00-\x1f\x7f^|~&]{0,300}")  # a sentence of the broker's own: no HL7 composite fits
_MASKED = re.compile(r"(?:[x9 -/:-@\[-`{-~]|<(?:[0-9A-F]{2}|VT|FS|CR|LF|TAB)>){0,64}")  # bytes of a peer's: letters as x, digits as 9
_DATE = re.compile(r"(?<![\d.])(?:19|20)\d\d[-/.]?(?:0[1-9]|1[0-2])[-/.]?(?:0[1-9]|[12]\d|3[01])(?![\d.])")

_NUMBER = None  # a number or a boolean, no text at all

FIELDS: dict[str, re.Pattern[str] | None] = {
    # where it happened
    "listener": _NAME,
    "destination": _NAME,
    "channel": _NAME,
    "node": _NAME,
    "engine": _NAME,
    "route": _PLACE,
    "file": _PLACE,
    "address": _PLACE,
    "peer": _PLACE,
    "sender": _SENDER,
    "ae_title": _SENDER,
    "called": _SENDER,
    "host": _NAME,
    "port": _NUMBER,
    # which one it was
    "message_id": _NUMBER,
    "delivery_id": _NUMBER,
    "accession": _ID,
    "control_id": _ID,
    "uid": _ID,
    "association": _ID,
    "version": _ID,
    "digest": _ID,
    "by": _SENDER,
    # what happened
    "kind": _KIND,
    "protocol": _NAME,
    "code": _ID,
    "state": _NAME,
    "name": _NAME,
    "step": _NAME,
    "fault": _TEXT,
    "reason": _TEXT,
    "what": _TEXT,
    "instead": _TEXT,
    "tail": _MASKED,
    "path": _PLACE,
    "type": _PLACE,
    "at": _PLACE,
    "signal": _NAME,
    "url": _PLACE,
    # how much
    "count": _NUMBER,
    "size": _NUMBER,
    "limit": _NUMBER,
    "line": _NUMBER,
    "pid": _NUMBER,
    "attempts": _NUMBER,
    "seconds": _NUMBER,
}

Entry = MutableMapping[str, Any]


class Log:
    """Writes events to a stream: JSON lines, or key=value on a terminal.

    strict: a field that is not in `FIELDS`, a value that is no scalar and an event that is no plain phrase raise ValueError (tests
    want that); otherwise they are replaced by a marker. Text of the wrong shape is data, so it is replaced in either mode.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        strict: bool = False,
        terminal: bool | None = None,
        now: Callable[[], float] = time.time,
        _logger: Any = None,
    ) -> None:
        if _logger is None:
            out = sys.stderr if stream is None else stream
            on_terminal = out.isatty() if terminal is None else terminal
            processors: list[Any] = [_Guard(strict), _Stamp(now), _readable if on_terminal else _json]
            _logger = structlog.wrap_logger(structlog.WriteLogger(out), processors=processors, wrapper_class=_Bound, context_class=dict)
        self._logger = _logger

    def info(self, event: str, /, **fields: Any) -> None:
        """Log what is as it should be."""
        self._logger.emit("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Log what a person should look at some time."""
        self._logger.emit("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Log what a person must act on."""
        self._logger.emit("error", event, fields)

    def bind(self, **fields: Any) -> Log:
        """Return a log that adds these fields to each event."""
        return Log(_logger=self._logger.bind(**fields))

    def failure(self, event: str, failure: Failure | BaseException, /, **fields: Any) -> None:
        """Log an exception's type and where it came from; its text only when it is one of broker.errors."""
        self.error(event, **describe(failure), **fields)


class _Bound(structlog.BoundLoggerBase):
    def emit(self, level: str, event: str, fields: dict[str, Any]) -> None:
        # a field may be called as an argument of structlog's own, hence a mapping instead of keywords
        args, kwargs = self._process_event(level, event, fields)
        self._logger.msg(*args, **kwargs)


class _Guard:
    """The processor that lets only whitelisted fields of the right shape through."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict

    def __call__(self, logger: Any, level: str, entry: Entry) -> Entry:
        event = entry.pop("event")
        safe: Entry = {"level": level, "event": event if _is_event(event) else self._wrong("the event is not a plain phrase in lower case")}
        for name, value in entry.items():
            if name not in FIELDS:
                # the name itself may have come from a message
                safe["withheld"] = self._wrong(f"{name} is not in broker.obs.log.FIELDS")
            elif value is not None:
                safe[name] = self._value(name, value)
        return safe

    def _value(self, name: str, value: object) -> object:
        shape = FIELDS[name]
        if isinstance(value, bool | int | float):
            return value
        if not isinstance(value, str) or shape is _NUMBER:
            return self._wrong(f"the value of {name} is not a scalar of its kind")
        if not shape.fullmatch(value):
            return WITHHELD
        return WITHHELD if shape is _TEXT and _DATE.search(value) else str(value)

    def _wrong(self, why: str) -> str:
        if self._strict:
            raise ValueError(why)
        return WITHHELD


class _Stamp:
    """The processor that puts the time first, in UTC."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def __call__(self, logger: Any, level: str, entry: Entry) -> Entry:
        at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"at_time": at, **entry}


def _is_event(event: object) -> bool:
    return isinstance(event, str) and len(event) <= 80 and _EVENT.fullmatch(event) is not None


def _json(logger: Any, level: str, entry: Entry) -> str:
    return json.dumps({"time": entry.pop("at_time"), **entry}, ensure_ascii=True)


def _readable(logger: Any, level: str, entry: Entry) -> str:
    at, shown, event = entry.pop("at_time"), entry.pop("level"), entry.pop("event")
    rest = " ".join(f"{name}={_quoted(value)}" for name, value in entry.items())
    return f"{at[11:23]} {shown:<7} {event:<28} {rest}".rstrip()


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or " " in text or '"' in text else text


def describe(failure: Failure | BaseException) -> dict[str, str]:
    """Return the `type` and place (`at`) of an exception, and its text as `reason` when the broker wrote it."""
    error = failure.value if isinstance(failure, Failure) else failure
    cause = error.__cause__ if error is not None else None
    kind = type(error).__name__ + (f" from {type(cause).__name__}" if cause is not None else "")
    described = {"type": kind, "at": " < ".join(_places(failure))[:600]}
    if isinstance(error, BrokerError):
        described["reason"] = " ".join(str(error).split())[:300]
    return {name: value for name, value in described.items() if value}


def _places(failure: Failure | BaseException, most: int = 6) -> Iterator[str]:
    """Yield `file:line` from where it was raised outwards."""
    trace: TracebackType | None
    # Twisted drops the real traceback of a failure that has been waited for, and keeps places only
    trace = failure.getTracebackObject() if isinstance(failure, Failure) else failure.__traceback__
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(trace)]
    for file, line in frames[::-1][:most]:
        yield f"{_short(file)}:{line}"


def _short(file: str) -> str:
    """Return the end of a file's path that says which module it is, whatever the machine."""
    return re.sub(r"[^\w./-]", "", "/".join(file.replace("\\", "/").split("/")[-3:]))
