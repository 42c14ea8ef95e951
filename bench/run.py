"""Every benchmark in one run on one machine; what counts are the ratios.

    python bench/run.py [--yardsticks FOLDER] [--quick] [SECTION …]

Sections: hl7, orders, images, parse, transform, start. With a folder of yardsticks (`mllp_floor.py`, `dicom_floor.py`: the least a
durable relay and a C-STORE receiver on Twisted can do) these run in the same call and the ratio is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import forward
import hl7_parse
import route_transform
from load import Figures, Sink, load
from process import HERE, TOP, free_ports, resident, running

CONNECTIONS = (1, 8, 32)
BROKER = [sys.executable, "-m", "broker"]


def main() -> None:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yardsticks", type=Path, default=TOP.parent / "shared" / "bench", help="folder; used when it is there")
    parser.add_argument("--quick", action="store_true", help="a tenth of the load")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all without one")
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}")
    yardsticks = args.yardsticks if args.yardsticks.is_dir() else None
    for name in args.sections or SECTIONS:
        SECTIONS[name](yardsticks, 0.1 if args.quick else 1.0)


def hl7(yardsticks: Path | None, share: float) -> None:
    """A channel of three steps and one destination, beside the least a durable relay can do."""
    title("HL7: durable acknowledgements and in-order delivery (730-byte ORM, three steps, one destination)")
    for connections in CONNECTIONS:
        messages = int((3000 if connections == 1 else 10000) * share)
        ours = _against_broker(HERE / "passthrough" / "channels.yaml", ("SINK_PORT",), connections, messages)
        show("broker", ours)
        if yardsticks:
            floor = _against_floor(yardsticks / "mllp_floor.py", connections, messages)
            show("floor", floor)
            ratios = ours.acked / floor.acked, ours.p99 / floor.p99, ours.delivered / floor.delivered
            print("  broker / floor: acknowledged {:.2f}, p99 {:.1f}, delivered {:.2f}".format(*ratios))


def orders(yardsticks: Path | None, share: float) -> None:
    """The shipped configuration: each order becomes a patient, an exam, a booked step, and two messages."""
    title("Orders: the shipped channels.yaml with RIS state (ORM in; OMI^O23 to the archive and SIU^S12 to the EHR out)")
    for connections in CONNECTIONS:
        messages = int(2000 * share)
        ours = _against_broker(TOP / "channels.yaml", ("EHR_HL7_PORT", "ARCHIVE_HL7_PORT"), connections, messages)
        show("broker", ours)
        if yardsticks:
            floor = _against_floor(yardsticks / "mllp_floor.py", connections, messages)
            print(f"  broker / floor: acknowledged {ours.acked / floor.acked:.2f}, p99 {ours.p99 / floor.p99:.1f}")


def images(yardsticks: Path | None, share: float) -> None:
    """C-STORE in, beside DCMTK's storescp and the least a receiver can do; then in and forwarded."""
    title("Images: C-STORE of 525 KB CT from DCMTK storescu")
    count = max(20, int(400 * share))
    environment = {**os.environ, "PYTHONPATH": str(TOP), **({"YARDSTICKS": str(yardsticks)} if yardsticks else {})}
    subprocess.run([sys.executable, str(HERE / "dicom_receive.py"), "--objects", str(count)], env=environment, check=True)
    forward.run(count)


def parse(yardsticks: Path | None, share: float) -> None:
    """Parse, read, set and encode, beside python-hl7."""
    title("HL7 message: parse, read 8 fields, set 2, encode")
    hl7_parse.main()


def transform(yardsticks: Path | None, share: float) -> None:
    """A typical order through a route of eight steps, without the store; and a call of a site's own function."""
    title("Route and transform")
    route_transform.main()


def start(yardsticks: Path | None, share: float) -> None:
    """From the command to the open port, and what the process holds then."""
    title("Start-up")
    for _ in range(3):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            environment, ports = _environment(Path(folder), ())
            began = time.perf_counter()
            command = [*BROKER, "--config", str(TOP / "channels.yaml"), "run"]
            with running(command, [ports["HL7_PORT"], ports["DICOM_PORT"], ports["WEB_PORT"]], environment, Path(folder)) as process:
                took = time.perf_counter() - began
                print(f"  listening after {took:.2f} s, resident {resident(process):.0f} MB")


def title(text: str) -> None:
    """Print the heading of a section."""
    print(f"\n{text}", flush=True)


def show(who: str, figures: Figures) -> None:
    """Print one load."""
    f = figures
    faults = f", missing {f.missing}, out of order {f.disorder}" if f.missing or f.disorder else ""
    print(
        f"  {who:<7} {f.connections:>3} connections: {f.acked:>7,.0f} acknowledged/s, p50 {f.p50:>6.2f} ms, p99 {f.p99:>7.2f} ms, "
        f"{f.delivered:>6,.0f} delivered/s, {f.codes}{faults}",
        flush=True,
    )


def _environment(folder: Path, sinks: tuple[str, ...]) -> tuple[dict[str, str], dict[str, int]]:
    names = (
        "HL7_PORT",
        "DICOM_PORT",
        "WEB_PORT",
        "ARCHIVE_DICOM_PORT",
        "ARCHIVE_HL7_PORT",
        "EHR_HL7_PORT",
        "BILLING_HL7_PORT",
        "SINK_PORT",
    )
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return {**{name: str(port) for name, port in ports.items()}, "BROKER_DATA": str(folder / "data"), "PYTHONPATH": str(TOP)}, ports


def _against_broker(config: Path, sinks: tuple[str, ...], connections: int, messages: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environment, ports = _environment(Path(folder), sinks)
        command = [*BROKER, "--config", str(config), "run"]
        return asyncio.run(
            _measure(
                lambda: running(command, [ports["HL7_PORT"]], environment, Path(folder)),
                ports["HL7_PORT"],
                [ports[name] for name in sinks],
                connections,
                messages,
            )
        )


def _against_floor(program: Path, connections: int, messages: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port, sink = free_ports(2)
        command = [sys.executable, str(program), str(port), str(sink), str(Path(folder) / "floor.db")]
        return asyncio.run(_measure(lambda: running(command, [port], {}, Path(folder)), port, [sink], connections, messages))


async def _measure(server: Callable[[], object], port: int, sinks: list[int], connections: int, messages: int) -> Figures:
    """Load a server whose deliveries go to the sinks; the last sink's figures count."""
    found = [Sink() for _ in sinks]
    loop = asyncio.get_running_loop()
    listening = [await loop.create_server(sink.protocol, "127.0.0.1", at) for sink, at in zip(found, sinks, strict=True)]
    try:
        with server():  # type: ignore[attr-defined]
            await load(port, found[-1], connections, 50)
            return await load(port, found[-1], connections, messages)
    finally:
        for one in listening:
            one.close()


SECTIONS = {"hl7": hl7, "orders": orders, "images": images, "parse": parse, "transform": transform, "start": start}

if __name__ == "__main__":
    main()
