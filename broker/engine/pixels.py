"""Worker processes for what touches pixel data, so that the reactor never waits for a codec."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from broker.engine.callee import receive, send
from broker.engine.calls import TimedSocket
from broker.errors import MessageError

LIMIT = 600.0  # seconds that one object may take
_TOP = Path(__file__).resolve().parents[2]
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV")  # of the environment; a password in it is no worker's business


class Pixels:
    """Does jobs of `dicom.derive` in processes of their own, `width` at a time; each makes a file of the folder, which is the caller's."""

    def __init__(self, reactor: Any, folder: Path, width: int = 0) -> None:
        """`width`: 0 is one for each processor but one."""
        self._reactor, self._folder = reactor, folder
        self._width = width or max(1, (os.cpu_count() or 1) - 1)
        self._threads = ThreadPool(0, self._width, "pixels")
        self._workers: LifoQueue[Worker] = LifoQueue()  # the one that worked last is there still
        for _ in range(self._width):
            self._workers.put(Worker())

    def start(self) -> None:
        """Remove what an earlier run left behind; a worker starts with its first job."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.iterdir():
            left.unlink()
        self._threads.start()
        self._reactor.addSystemEventTrigger("after", "shutdown", self._threads.stop)

    def stop(self) -> Deferred[None]:
        """End the workers; what they were at fails."""
        for worker in tuple(self._workers.queue):
            worker.stop()
        return succeed(None)

    def transcode(self, path: str, target: str) -> Deferred[str]:
        """Fire with the path of a temporary file in that transfer syntax, which is the caller's; fails with MessageError."""
        return self._do("transcode", path, {"syntax": target}).addCallback(lambda made: made["path"])

    def deidentify(self, path: str, settings: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """Fire with what `dicom.derive` says of the object made, and its `path`, which is the caller's; fails with MessageError."""
        return self._do("deidentify", path, settings)

    def _do(self, job: str, source: str, settings: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        return deferToThreadPool(self._reactor, self._threads, self._work, {"job": job, "source": source, **settings})

    def _work(self, job: dict[str, Any]) -> dict[str, Any]:
        target = str(self._folder / f"{uuid.uuid4().hex}.dcm")
        worker = self._workers.get()
        try:
            return {**worker.run({**job, "target": target}), "path": target}
        except MessageError:
            with suppress(OSError):
                os.unlink(target)
            raise
        finally:
            self._workers.put(worker)


class Worker:
    """One process, started when it is needed; it ends itself when it has long had nothing to do."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.process: subprocess.Popen[bytes] | None = None
        self._wire: socket.socket | None = None
        self._end: Callable[[], object] = lambda: None

    def run(self, job: Mapping[str, Any], limit: float = LIMIT) -> dict[str, Any]:
        """Do one job, blocking; raises MessageError, also when the process ends over it or takes too long."""
        used = self._wire is not None
        try:
            return self._exchange(job, limit)
        except (OSError, EOFError, ValueError) as error:
            self.stop()
            if isinstance(error, TimeoutError):
                raise MessageError("PixelData", f"takes longer than {limit:g} s", 207) from None
            if not used:
                raise MessageError("PixelData", "the codec ends its process", 207) from None
        return self.run(job, limit)  # a process that had nothing to do may just have ended

    def stop(self) -> None:
        """End the process."""
        self._end()
        self._wire = self.process = None

    def _exchange(self, job: Mapping[str, Any], limit: float) -> dict[str, Any]:
        wire = self._wire or self._start()
        wire.settimeout(limit)
        send(wire, job)
        answer, _ = receive(TimedSocket(wire, self._now() + limit, self._now))
        if "why" in answer:
            raise MessageError(answer["path"], answer["why"], answer["code"])
        made: dict[str, Any] = answer["made"]
        return made

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"PYTHONPATH": str(_TOP)}
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "broker.engine.pixelworker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C on the terminal is for the broker, which ends its workers itself
            )
        self._end = weakref.finalize(self, _kill, process, ours)
        self._wire, self.process = ours, process
        return ours


def _kill(process: subprocess.Popen[bytes], wire: socket.socket) -> None:
    wire.close()
    process.kill()
    process.wait()
