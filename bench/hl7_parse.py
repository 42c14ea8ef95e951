"""Parse, read eight fields, set two and encode an ORM: this message beside `hl7.parse`, in one run.

python bench/hl7_parse.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import hl7

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from broker.hl7.message import Message

ORM = (
    b"MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260101120000||ORM^O01^ORM_O01|LOAD00000001|P|2.5.1|||AL|NE||UNICODE UTF-8\r"
    b"PID|1||PAT000001^^^GENHOSP^MR||DOE^JANE^Q^^^^L||19700101|F|||123 MAIN ST^^SPRINGFIELD^IL^62701^USA||(217)555-0100|||M||ACC000001\r"
    b"PV1|1|O|RAD^^^GENHOSP||||1234^SMITH^JOHN^^^DR|5678^JONES^MARY^^^DR||RAD||||||||VN000001\r"
    b"IN1|1|PPO|BCBS|Blue Cross Blue Shield||||GRP123|||||||DOE^JANE|18|19700101\r"
    b"ORC|NW|ORD00000001^EHR|||SC||^^^20260102090000^^R||20260101120000|CLERK^A||1234^SMITH^JOHN^^^DR\r"
    b"OBR|1|ORD00000001^EHR||CTCHEST^CT CHEST W CONTRAST^LOCAL|||20260101120000||||||COUGH FEVER||^^^CHEST|1234^SMITH^JOHN^^^DR||A00000001"
    b"||||||CT|||^^^20260102090000^^R\r"
    b"DG1|1||R05^Cough^I10\r"
)


ORU = (
    ORM.partition(b"ORC|")[0].replace(b"ORM^O01^ORM_O01", b"ORU^R01^ORU_R01")
    + b"ORC|RE|ORD1\rOBR|1|ORD1||CTCHEST\rOBX|1|ED|PDF^Report^L||^application^pdf^Base64^"
    + b"JVBERi0xLjQK" * 83_000
    + b"||||||F\r"
)  # 1 MB


def ours(raw: bytes) -> bytes:
    """The broker's message."""
    message = Message.parse(raw)
    for path in ("MSH-9.1", "MSH-10", "PID-3.1", "PID-3.4", "PID-5.1", "ORC-1", "ORC-2.1", "OBR-4.1"):
        message.get(path)
    message.set("MSH-5", "PEER")
    message.set("PID-3.1", "X1")
    return message.encode()


def theirs(raw: bytes) -> bytes:
    """python-hl7."""
    message = hl7.parse(raw, encoding="utf-8")
    for place in (("MSH", 9, 1), ("MSH", 10), ("PID", 3, 1), ("PID", 3, 4), ("PID", 5, 1), ("ORC", 1), ("ORC", 2, 1), ("OBR", 4, 1)):
        message.extract_field(place[0], 1, place[1], 1, place[2] if len(place) > 2 else 1)
    message.assign_field("PEER", "MSH", 1, 5)
    message.assign_field("X1", "PID", 1, 3, 1, 1)
    return str(message).encode()


def rate(function: Callable[[bytes], bytes], seconds: float = 1.0, raw: bytes = ORM) -> float:
    """Return the calls a second of `function` on a message."""
    count, start = 0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        for _ in range(20):
            function(raw)
        count += 20
    return count / (now - start)


def main() -> None:
    """Print both rates and their ratio."""
    mine, other = rate(ours), rate(theirs)
    print(f"{len(ORM)} byte ORM: parse, read 8, set 2, encode")
    print(f"broker.hl7 {mine:10,.0f}/s\nhl7        {other:10,.0f}/s\nratio      {mine / other:10.1f}")
    print(f"{len(ORU) / 1e6:.1f} MB ORU with a PDF, the same\nbroker.hl7 {rate(ours, raw=ORU):10,.0f}/s")


if __name__ == "__main__":
    main()
