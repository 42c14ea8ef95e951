"""Processes of the broker's own that do one request after the other: started, talked to with an end in time, and killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TOP = Path(__file__).resolve().parents[2]
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV")  # of the environment; a password in it is no child's business


@dataclass(frozen=True, slots=True)
class Child:
    """A process, the socket to it, and what ends both."""

    process: subprocess.Popen[bytes]
    wire: socket.socket
    end: Callable[[], object]


def start(module: str, owner: object) -> Child:
    """Start `python -m module DESCRIPTOR`, which ends with its owner at the latest."""
    ours, theirs = socket.socketpair()
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"PYTHONPATH": str(_TOP)}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C on the terminal is for the broker, which still answers what it has taken
        )
    return Child(process, ours, weakref.finalize(owner, _kill, process, ours))


def _kill(process: subprocess.Popen[bytes], wire: socket.socket) -> None:
    process.kill()  # first: a thread that reads from it then finds its end
    process.wait()
    wire.close()


class TimedSocket:
    """A socket whose every reading has one end in time."""

    def __init__(self, wire: socket.socket, deadline: float, now: Callable[[], float]) -> None:
        self._wire, self._deadline, self._now = wire, deadline, now

    def recv(self, size: int) -> bytes:
        """Return what came; raises TimeoutError."""
        left = self._deadline - self._now()
        if left <= 0:
            raise TimeoutError
        self._wire.settimeout(left)
        return self._wire.recv(size)
