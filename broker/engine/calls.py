"""Calls of the site's own functions: each module in a process of its own, which is killed when a call passes its limit."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from broker.engine.callee import MOST, receive, send
from broker.engine.child import TimedSocket, start
from broker.errors import ConfigError, MessageError, Problem
from broker.hl7.message import Message
from broker.hl7.path import parse
from broker.hl7.tables import CONDITIONS
from broker.pipeline.functions import Function

START = 5.0  # seconds that a module may take to load
FAILURES = 3  # in a row, after which a module rests
REST = 30.0  # seconds


class Calls:
    """The processes of one configuration, one for each module, started when they are first needed.

    A call blocks the thread that routes, for at most the function's limit: a message is routed inside the transaction that takes it
    in. A module that fails three times in a row is left alone for half a minute, so that it cannot hold up everything else.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._workers: dict[tuple[str, str], Worker] = {}

    def load(self, functions: Iterable[Function]) -> None:
        """Start the processes of these functions, and wait until each has loaded its module; raises ConfigError."""
        workers = list(dict.fromkeys(map(self._worker, functions)))
        for worker in workers:
            worker.start()
        if problems := [problem for worker in workers if (problem := worker.problem())]:
            self.close()
            raise ConfigError(problems)

    def call(self, function: Function, message: Message) -> Message:
        """Return the message as the function leaves it; raises MessageError, with the place in the module and nothing of the message."""
        return self._worker(function).call(function, message)

    def close(self) -> None:
        """End every process."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    def _worker(self, function: Function) -> Worker:
        key = (function.file, function.source)
        if key not in self._workers:
            self._workers[key] = Worker(*key, self._now)
        return self._workers[key]


class Unloadable(Exception):
    """The module of a process cannot be loaded."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(why)
        self.why, self.line = why, line


class Worker:
    """One module in a process of its own."""

    def __init__(self, file: str, source: str, now: Callable[[], float]) -> None:
        self._file, self._source, self._now = file, source, now
        self._lock = threading.Lock()
        self._wire: socket.socket | None = None
        self._end: Callable[[], object] = _nothing
        self._loaded = False
        self._failures = 0
        self._resting = 0.0  # until then

    def start(self) -> None:
        """Start the process and give it the module, without waiting until that is loaded."""
        if self._wire is not None:
            return
        child = start("broker.engine.callee", self)
        ours = self._wire = child.wire
        self._end, self._loaded = child.end, False
        ours.settimeout(START)
        send(ours, {"file": self._file}, self._source.encode())

    def stop(self) -> None:
        """End the process."""
        self._end()
        self._wire, self._loaded = None, False

    def call(self, function: Function, message: Message) -> Message:
        """Return the message as the function leaves it; raises MessageError."""
        with self._lock:
            if self._now() < self._resting:
                raise self._error(f"{function.name} is not called, for it failed {FAILURES} times in a row")
            head, raw = self._exchange(function, message)
        if "fault" in head:
            raise self._raised(function, head)
        if not raw:
            return message
        _, _, coder = message.header()
        try:
            return Message.parse(raw, coder.names, coder.fallback.hl7)
        except MessageError:
            raise self._error(f"{function.name} left no HL7 message") from None

    def problem(self) -> Problem | None:
        """Return what keeps the module from being loaded; blocks until that is known."""
        try:
            self._ready()
        except Unloadable as error:
            return Problem(self._file, error.line, "", error.why)
        return None

    def _exchange(self, function: Function, message: Message) -> tuple[dict[str, Any], bytes]:
        """Send the message and return the answer; a process that does not answer in time is killed, and another one started."""
        _, _, coder = message.header()
        head = {"function": function.name, "settings": dict(function.settings), "limit": function.limit}
        head |= {"charset": coder.names, "fallback": coder.fallback.hl7}
        try:
            wire = self._ready()
            deadline = self._now() + function.limit
            wire.settimeout(function.limit)
            send(wire, head, message.encode())
            answer = receive(TimedSocket(wire, deadline, self._now))
        except Unloadable as error:
            raise self._failed(error.why, error.line) from None
        except TimeoutError:
            raise self._failed(f"{function.name} takes longer than its limit of {function.limit:g}s") from None
        except ValueError:
            raise self._failed(f"{function.name} makes more than {MOST >> 20} MB") from None
        except (OSError, EOFError):
            raise self._failed(f"{function.name} ends its process") from None
        self._failures = 0
        return answer

    def _ready(self) -> socket.socket:
        """Return the wire to a process that has loaded the module; raises Unloadable."""
        self.start()
        wire = self._wire
        assert wire is not None  # it was just started
        if not self._loaded:
            wire.settimeout(START)
            try:
                fault, _ = receive(wire)
            except (OSError, EOFError, ValueError):
                raise Unloadable("cannot be loaded, or takes too long to") from None
            if fault:
                raise Unloadable(f"cannot be loaded: {fault['fault']}", fault["line"])
            self._loaded = True
        return wire

    def _failed(self, why: str, line: int = 0) -> MessageError:
        self.stop()
        self._failures += 1
        if self._failures >= FAILURES:
            self._resting = self._now() + REST
        self.start()  # it loads while the next message is awaited
        return self._error(why, line)

    def _error(self, why: str, line: int = 0) -> MessageError:
        return MessageError("", f"{self._file}{f', line {line}' if line else ''}: {why}", 207)

    def _raised(self, function: Function, fault: dict[str, Any]) -> MessageError:
        if "line" not in fault:
            return self._error(f"{function.name} {fault['fault']}")
        error = self._error(f"{function.name} raised {fault['fault']}", fault["line"])
        code = fault.get("code", error.code)
        return MessageError(_known(fault.get("path")), error.why, code if code in CONDITIONS else 207, reject=bool(fault.get("reject")))


def _known(path: Any) -> str:
    """Return a path that is one, else "": it may be any text."""
    try:
        return str(parse(path))
    except (ValueError, TypeError):
        return ""


def _nothing() -> None:
    """Ends what was never started."""
