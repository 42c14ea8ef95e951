"""A worker process for what touches pixel data: it takes one job after the other, each from one file to another.

Started as `python -m broker.engine.pixelworker DESCRIPTOR`; it ends when the broker is gone, or by itself when nothing comes.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Mapping
from typing import Any

from broker.dicom.dataset import silence_libraries
from broker.dicom.derive import derive
from broker.engine.callee import receive, send
from broker.errors import MessageError

MEMORY = 8 << 30  # bytes of address space
IDLE = 120.0  # seconds without a job
_NICE = 10  # the reactor comes first


def work(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return what came of one job: nothing, or why it could not be done, without a patient's data."""
    try:
        return {"made": derive(**job)}
    except MessageError as error:
        return {"path": error.path, "why": error.why, "code": error.code}
    except MemoryError:
        return {"path": "", "why": "the object is too large for a worker", "code": 102}
    except Exception as error:  # whatever damaged pixel data raise in a codec
        return {"path": "", "why": f"the object cannot be derived ({type(error).__name__})", "code": 102}


def main(descriptor: int) -> None:
    """Work until the broker is gone or nothing has come for a while."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(_NICE)
    silence_libraries()
    with socket.socket(fileno=descriptor) as wire:
        wire.settimeout(IDLE)
        while True:
            try:
                job, _ = receive(wire)
            except (EOFError, TimeoutError, OSError):
                return
            send(wire, work(job))


if __name__ == "__main__":
    main(int(sys.argv[1]))
