"""Worker processes for what touches pixel data, so that the reactor never waits for a codec."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from broker.engine.callee import receive, send
from broker.engine.child import TimedSocket, start
from broker.errors import MessageError, Retry

LIMIT = 600.0  # seconds that one object may take
FRESH = 2  # processes that were started for an object and ended over it, after which it is at fault; one may have been killed for memory


class Pixels:
    """Does jobs of `dicom.derive` in processes of their own, `width` at a time; each makes a file of the folder, which is the caller's."""

    def __init__(self, reactor: Any, folder: Path, width: int = 0) -> None:
        """`width`: 0 is one for each processor but one."""
        self._reactor, self._folder = reactor, folder
        self._width = width or max(1, (os.cpu_count() or 1) - 1)
        self._threads = ThreadPool(0, self._width, "pixels")
        self._all = [Worker() for _ in range(self._width)]
        self._workers: LifoQueue[Worker] = LifoQueue()  # the one that worked last is there still
        for worker in self._all:
            self._workers.put(worker)

    def start(self) -> None:
        """Remove what an earlier run left behind; a worker starts with its first job."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.iterdir():
            left.unlink()
        self._threads.start()
        self._reactor.addSystemEventTrigger("after", "shutdown", self._halt)

    def stop(self) -> Deferred[None]:
        """End the workers for good; what they were at fails with Retry."""
        for worker in self._all:
            worker.close()
        return succeed(None)

    def _halt(self) -> None:
        self.stop()  # or the threads would wait for them
        self._threads.stop()

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
        except BaseException:
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
        self._closed = False

    def run(self, job: Mapping[str, Any], limit: float = LIMIT) -> dict[str, Any]:
        """Do one job, blocking; raises Retry after `close`, else MessageError, also when it takes too long or two processes end over it."""
        fresh = 0
        while True:
            fresh += self._wire is None  # one that had nothing to do may just have ended
            try:
                return self._exchange(job, limit)
            except (OSError, EOFError, ValueError) as error:
                self.stop()
                if self._closed:
                    raise Retry("the broker ends") from None
                if isinstance(error, TimeoutError):
                    raise MessageError("PixelData", f"takes longer than {limit:g} s", 207) from None
                if fresh == FRESH:
                    raise MessageError("PixelData", "the codec ends its process", 207) from None

    def stop(self) -> None:
        """End the process."""
        self._end()
        self._wire = self.process = None

    def close(self) -> None:
        """End the process for good; called from another thread than that of `run`."""
        self._closed = True
        self._end()

    def _exchange(self, job: Mapping[str, Any], limit: float) -> dict[str, Any]:
        wire = self._wire or self._start()
        if self._closed:
            raise EOFError
        wire.settimeout(limit)
        send(wire, job)
        answer, _ = receive(TimedSocket(wire, self._now() + limit, self._now))
        if "why" in answer:
            raise MessageError(answer["path"], answer["why"], answer["code"])
        made: dict[str, Any] = answer["made"]
        return made

    def _start(self) -> socket.socket:
        child = start("broker.engine.pixelworker", self)
        self._end, self._wire, self.process = child.end, child.wire, child.process
        return child.wire
