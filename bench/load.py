"""Load an MLLP listener and count what comes out of it at a sink: standard library only.

Each connection has one message outstanding, as MLLP senders do; the patient is the connection, so that the sink can check
the order per patient by the order number.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

VT, FS = b"\x0b", b"\x1c\r"
NUMBERS = itertools.count(1)

HEAD = "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260101120000||{type}|BENCH{n:08d}|P|2.5.1|||AL|NE||UNICODE UTF-8\r"
PATIENT = (
    "PID|1||PAT{p:06d}^^^GENHOSP^MR||DOE^JANE^Q^^^^L||19700101|F|||123 MAIN ST^^SPRINGFIELD^IL^62701^USA||(217)555-0100|||M||ACC{p:06d}\r"
    "PV1|1|O|RAD^^^GENHOSP||||1234^SMITH^JOHN^^^DR|5678^JONES^MARY^^^DR||RAD||||||||VN{p:06d}\r"
)
ORM = (
    HEAD
    + PATIENT
    + (
        "IN1|1|PPO|BCBS|Blue Cross Blue Shield||||GRP123|||||||DOE^JANE|18|19700101\r"
        "ORC|NW|ORD{n:08d}^EHR|||SC||^^^20260102090000^^R||20260101120000|CLERK^A||1234^SMITH^JOHN^^^DR\r"
        "OBR|1|ORD{n:08d}^EHR||CTCHEST^CT CHEST W CONTRAST^LOCAL|||20260101120000||||||COUGH FEVER||^^^CHEST|1234^SMITH^JOHN^^^DR"
        "||A{n:08d}||||||CT|||^^^20260102090000^^R\r"
        "DG1|1||R05^Cough^I10\r"
    )
)


RESULT = (
    HEAD
    + PATIENT
    + (
        "ORC|RE|ORD{n:08d}^EHR|A{n:08d}^RIS\r"
        "OBR|1|ORD{n:08d}^EHR|A{n:08d}^RIS|CTCHEST^CT CHEST W CONTRAST^LOCAL|||20260102093000|||||||||1234^SMITH^JOHN^^^DR||A{n:08d}"
        "||||20260102100000||CT|F\r"
    )
)
LINES = "".join(
    f"OBX|{i}|TX|RPT^REPORT^LOCAL||Line {i} of the report: no acute cardiopulmonary abnormality is seen in this segment.||||||F\r"
    for i in range(1, 25)
).encode()
PDF = b"OBX|1|ED|PDF^REPORT^LOCAL||^application^pdf^Base64^" + b"JVBERi0xLjQK" * 87_000 + b"||||||F\r"


def order(n: int, patient: int) -> bytes:
    """Return an ORM^O01 of about 730 bytes."""
    return ORM.format(type="ORM^O01^ORM_O01", n=n, p=patient).encode()


def report(n: int, patient: int) -> bytes:
    """Return an ORU^R01 of about 3 KB."""
    return RESULT.format(type="ORU^R01^ORU_R01", n=n, p=patient).encode() + LINES


def document(n: int, patient: int) -> bytes:
    """Return an ORU^R01 of about 1 MB, nearly all of it one embedded PDF."""
    return RESULT.format(type="ORU^R01^ORU_R01", n=n, p=patient).encode() + PDF


@dataclass
class Sink:
    """Answers AA to everything; remembers which orders came, and whether in order per patient."""

    delay: float = 0.0  # seconds before it answers
    seen: set[bytes] = field(default_factory=set)
    last: dict[bytes, bytes] = field(default_factory=dict)
    twice: int = 0
    disorder: int = 0
    began: float = 0.0  # when the first one came
    at: float = 0.0

    def protocol(self) -> asyncio.Protocol:
        return _SinkWire(self)

    def note(self, raw: bytes) -> None:
        at = raw.find(b"\rORC|") + 1
        number = raw[at:].split(b"|", 3)[2] if at else raw[: raw.find(b"\r")].split(b"|")[9]
        patient = raw[raw.find(b"\rPID|") + 1 :].split(b"|", 4)[3]
        if number in self.seen:
            self.twice += 1
            return
        self.disorder += number < self.last.get(patient, b"")
        self.last[patient] = number
        self.seen.add(number)
        self.at = time.perf_counter()
        self.began = self.began or self.at


class _SinkWire(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self.sink, self.rest, self.loop = sink, b"", asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        while (end := data.find(FS)) >= 0:
            raw, data = data[1:end], data[end + 2 :]
            control_id = raw[: raw.find(b"\r")].split(b"|")[9]
            self.sink.note(raw)
            answer = VT + b"MSH|^~\\&|SINK||||20260101||ACK|" + control_id + b"|P|2.5.1\rMSA|AA|" + control_id + b"\r" + FS
            if self.sink.delay:
                self.loop.call_later(self.sink.delay, self.transport.write, answer)
            else:
                self.transport.write(answer)
        self.rest = data


@dataclass(frozen=True)
class Figures:
    """What one load showed."""

    connections: int
    acked: float  # a second
    p50: float  # ms
    p99: float  # ms
    delivered: float  # a second
    codes: dict[str, int]
    missing: int
    twice: int
    disorder: int
    cpu: float = 0.0  # of the server, µs a message
    resident: float = 0.0  # of the server at the end, MB


async def load(
    port: int, sink: Sink, connections: int, messages: int, patience: float = 15.0, make: Callable[[int, int], bytes] = order
) -> Figures:
    """Send `messages` over `connections`, wait for them at the sink, and return the figures."""
    sink.__init__()  # type: ignore[misc]
    numbers: Iterator[int] = itertools.islice(NUMBERS, messages)
    latencies: list[float] = []
    codes: dict[str, int] = {}
    start = time.perf_counter()
    await asyncio.gather(*(_send(port, patient, numbers, latencies, codes, make) for patient in range(connections)))
    took, accepted = time.perf_counter() - start, codes.get("AA", 0) + codes.get("CA", 0)
    quiet = time.perf_counter()
    while len(sink.seen) < accepted and time.perf_counter() - max(quiet, sink.at) < patience:
        await asyncio.sleep(0.02)
    latencies.sort()
    p50, p99 = (round(latencies[min(len(latencies) - 1, int(len(latencies) * q))] * 1000, 2) for q in (0.5, 0.99))
    delivered = len(sink.seen) / (sink.at - start) if sink.seen else 0.0
    return Figures(connections, messages / took, p50, p99, delivered, codes, accepted - len(sink.seen), sink.twice, sink.disorder)


async def _send(
    port: int,
    patient: int,
    numbers: Iterator[int],
    latencies: list[float],
    codes: dict[str, int],
    make: Callable[[int, int], bytes],
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for n in numbers:
        start = time.perf_counter()
        writer.write(VT + make(n, patient) + FS)
        answer = await reader.readuntil(FS)
        latencies.append(time.perf_counter() - start)
        code = answer.split(b"MSA|", 1)[1][:2].decode()
        codes[code] = codes.get(code, 0) + 1
    writer.close()
