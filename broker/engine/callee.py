"""The other side of the step `call`: a process that has loaded one module of the site, and calls its functions one after the other.

Started as `python -m broker.engine.callee DESCRIPTOR`. It holds no secrets, prints nowhere, and imports as little as it can.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from types import ModuleType, TracebackType
from typing import Any, Protocol

from broker.errors import MessageError
from broker.hl7.message import Message

MEMORY = 1 << 30  # bytes of address space
MOST = 64 << 20  # bytes of one request or answer
_SIZES = struct.Struct("!II")

Head = Mapping[str, Any]


def send(wire: socket.socket, head: Head, body: bytes = b"") -> None:
    """Send one request or answer."""
    text = json.dumps(head).encode()
    wire.sendall(_SIZES.pack(len(text), len(body)) + text + body)


class Readable(Protocol):
    """What bytes come from: a socket, or one that is given only so much time."""

    def recv(self, size: int, /) -> bytes:
        """Return what has come, nothing when the other side is gone."""


def receive(wire: Readable) -> tuple[dict[str, Any], bytes]:
    """Return one request or answer; raises EOFError when the other side is gone, ValueError when it is too large."""
    first, second = _SIZES.unpack(_exactly(wire, _SIZES.size))
    if first + second > MOST:
        raise ValueError("too large")
    head: dict[str, Any] = json.loads(_exactly(wire, first))
    return head, _exactly(wire, second)


def _exactly(wire: Readable, size: int) -> bytes:
    parts = []
    while size:
        part = wire.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def load(file: str, source: str) -> tuple[ModuleType, dict[str, Any]]:
    """Return the module made of a text, and what kept it from being loaded: nothing when all is well."""
    module = ModuleType("site_module")
    module.__file__ = file
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except BaseException as error:
        return module, _fault(error, file)
    return module, {}


def call(module: ModuleType, file: str, request: Head, raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Return what became of a message: its new bytes, none when it is unchanged, or the fault."""
    try:
        message = Message.parse(raw, request["charset"], request["fallback"])
        result = getattr(module, request["function"])(message, **request["settings"])
        if isinstance(result, Mapping):
            for path, text in result.items():
                message.set(path, text)
        elif isinstance(result, Message):
            message = result
        elif result is not None:
            return {"fault": "returned neither a message nor a dict of paths and texts"}, b""
        made = message.encode()
        return {}, b"" if made == raw else made
    except BaseException as error:
        return _fault(error, file), b""


def _fault(error: BaseException, file: str) -> dict[str, Any]:
    """Return the kind of an error and its line in the module, never its text: that may hold a patient's data."""
    line = getattr(error, "lineno", 0) if isinstance(error, SyntaxError) else _line(error.__traceback__, file)
    fault: dict[str, Any] = {"fault": type(error).__name__, "line": line}
    if isinstance(error, MessageError) and line:
        fault |= {"path": error.path, "code": error.code, "reject": error.reject}
    return fault


def _line(traceback: TracebackType | None, file: str) -> int:
    """Return the innermost line of the module, 0 when the error came from elsewhere."""
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == file:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def main(descriptor: int) -> None:
    """Load the module of the first request, say so, and answer until the broker is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with socket.socket(fileno=descriptor) as wire:
        first, source = receive(wire)
        file = first["file"]
        module, fault = load(file, source.decode())
        send(wire, fault)
        while not fault:
            try:
                request, raw = receive(wire)
            except EOFError:
                return
            # should the broker be gone by then, nobody else would end a function that never returns
            signal.setitimer(signal.ITIMER_REAL, request["limit"] + 1)
            answer = call(module, file, request, raw)
            signal.setitimer(signal.ITIMER_REAL, 0)
            send(wire, *answer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
