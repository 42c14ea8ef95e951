"""Every benchmark in one run on one machine; what counts are the ratios.

    python bench/run.py [--yardsticks FOLDER] [--quick] [SECTION …]

Sections: hl7, sizes, many, lanes, journal, orders, images, forward, associations, worklist, parse, transform, start. With a folder of
yardsticks (`mllp_floor.py`, `dicom_floor.py`: the least a durable relay and a C-STORE receiver on Twisted can do) these run in the same
call and the ratio is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import associations
import dicom_receive
import flat
import forward
import hl7_parse
import lanes
import route_transform
import worklist
from load import Figures, Sink, document, load, order, report
from process import HERE, TOP, cpu, free_ports, resident, running

Make = Callable[[int, int], bytes]  # a message of a number and a patient

CONNECTIONS = (1, 8, 32)
PASSTHROUGH = HERE / "passthrough" / "channels.yaml"
BROKER = [sys.executable, "-m", "broker"]


def main() -> None:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = TOP.parent / "shared" / "bench"
    parser.add_argument("--yardsticks", type=lambda text: Path(text).resolve(), default=shared, help="folder; used when it is there")
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
        ours = _against_broker(PASSTHROUGH, ("SINK_PORT",), connections, messages)
        show("broker", ours)
        if yardsticks:
            floor = _against_floor(yardsticks / "mllp_floor.py", connections, messages)
            show("floor", floor)
            ratios = ours.acked / floor.acked, ours.p99 / floor.p99, ours.delivered / floor.delivered
            print("  broker / floor: acknowledged {:.2f}, p99 {:.1f}, delivered {:.2f}".format(*ratios))


def sizes(yardsticks: Path | None, share: float) -> None:
    """The same channel with reports, and with reports that carry a document."""
    title("HL7: larger messages (ORU of 3 KB; ORU of 1 MB with an embedded PDF)")
    for make, connections, messages in ((report, 8, 5000), (document, 4, 200)):
        ours = _against_broker(PASSTHROUGH, ("SINK_PORT",), connections, int(messages * share), make=make)
        show("broker", ours)
        if yardsticks:
            floor = _against_floor(yardsticks / "mllp_floor.py", connections, int(messages * share), make=make)
            show("floor", floor)
            print(f"  broker / floor: acknowledged {ours.acked / floor.acked:.2f}, delivered {ours.delivered / floor.delivered:.2f}")


def many(yardsticks: Path | None, share: float) -> None:
    """256 busy connections beside 256 idle ones, against 32."""
    title("HL7: many connections")
    few = _against_broker(PASSTHROUGH, ("SINK_PORT",), 32, int(10000 * share))
    show("broker", few)
    crowd = _against_broker(PASSTHROUGH, ("SINK_PORT",), 256, int(10000 * share), idle=256)
    show("broker", crowd)
    print(f"  256 busy and 256 idle / 32: acknowledged {crowd.acked / few.acked:.2f}")


def ways(yardsticks: Path | None, share: float) -> None:
    """One connection and four to the same destination."""
    title("Lanes: deliveries out of a full outbox over one connection and over four")
    lanes.main(int(8000 * share))


def journal(yardsticks: Path | None, share: float) -> None:
    """The same load on an empty store and on full ones."""
    title("The journal: the cost of a message by what the store holds already")
    flat.main(*(int(size * share) for size in flat.SIZES))


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
    """C-STORE in, beside DCMTK's storescp, Orthanc and the least a receiver can do."""
    title("Images: C-STORE from DCMTK storescu; journaled, counted at the exam of their order, kept")
    quick = share < 1
    dicom_receive.run([], quick=quick, rounds=1 if quick else 3, yardsticks=yardsticks)


def setting_up(yardsticks: Path | None, share: float) -> None:
    """Association after association, beside pynetdicom's acceptor."""
    title("Associations: set up and released, 64 presentation contexts each")
    associations.run(share)


def forwarding(yardsticks: Path | None, share: float) -> None:
    """Images in, linked, coerced, and out to DCMTK's storescp, beside Orthanc's auto-routing."""
    title("Store and forward: 525 KB CT, linked to their order, coerced, sent on to DCMTK storescp")
    forward.run(max(20, int(600 * share)))


def entries(yardsticks: Path | None, share: float) -> None:
    """Worklist queries, beside DCMTK's wlmscpfs."""
    title("Worklist: C-FIND of the same entries, over one association")
    worklist.run(share)


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
        f"{f.delivered:>6,.0f} delivered/s, {f.cpu:.0f} µs CPU a message, {f.resident:.0f} MB, {f.codes}{faults}",
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


def _against_broker(config: Path, sinks: tuple[str, ...], connections: int, messages: int, *, idle: int = 0, make: Make = order) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environment, ports = _environment(Path(folder), sinks)
        command = [*BROKER, "--config", str(config), "run"]
        server = running(command, [ports["HL7_PORT"]], environment, Path(folder))
        return asyncio.run(_measure(server, ports["HL7_PORT"], [ports[name] for name in sinks], connections, messages, idle, make))


def _against_floor(program: Path, connections: int, messages: int, *, make: Make = order) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port, sink = free_ports(2)
        command = [sys.executable, str(program), str(port), str(sink), str(Path(folder) / "floor.db")]
        server = running(command, [port], {}, Path(folder))
        return asyncio.run(_measure(server, port, [sink], connections, messages, 0, make))


async def _measure(
    server: AbstractContextManager[subprocess.Popen[bytes]],
    port: int,
    sinks: list[int],
    connections: int,
    messages: int,
    idle: int,
    make: Make,
) -> Figures:
    """Load a server whose deliveries go to the sinks; the last sink's figures count."""
    found = [Sink() for _ in sinks]
    loop = asyncio.get_running_loop()
    listening = [await loop.create_server(sink.protocol, "127.0.0.1", at) for sink, at in zip(found, sinks, strict=True)]
    try:
        with server as process:
            await load(port, found[-1], connections, 50)
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(idle)]
            began = cpu(process)
            figures = await load(port, found[-1], connections, messages, make=make)
            used = cpu(process) - began
            for _, writer in silent:
                writer.close()
            return replace(figures, cpu=used / messages * 1e6, resident=resident(process))
    finally:
        for one in listening:
            one.close()


SECTIONS = {
    "hl7": hl7,
    "sizes": sizes,
    "many": many,
    "lanes": ways,
    "journal": journal,
    "orders": orders,
    "images": images,
    "forward": forwarding,
    "associations": setting_up,
    "worklist": entries,
    "parse": parse,
    "transform": transform,
    "start": start,
}

if __name__ == "__main__":
    main()
