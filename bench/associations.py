#!/usr/bin/env python3
"""Associations set up and released a second: the broker's listener and pynetdicom's, asked by the same clients.

    associations.py [--count 2000] [--clients 1 4]

Each client connects, asks for 64 storage SOP classes in two transfer syntaxes, reads the answer, releases, and begins anew.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from process import TOP, free_ports, running

RELEASE = b"\5\0\0\0\0\4\0\0\0\0"


def request() -> bytes:
    """Return the A-ASSOCIATE-RQ of a client."""
    from pynetdicom import AllStoragePresentationContexts

    from broker.dicom.associate import write_request
    from broker.dicom.negotiation import Offer, Request

    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts[:64]]
    syntaxes = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
    return write_request(Request("BENCH", "BROKER", tuple(Offer(2 * at + 1, one, syntaxes) for at, one in enumerate(classes)), 1 << 14))


def ask(port: int, asked: bytes, count: int) -> None:
    """Set up and release so many associations."""
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.sendall(asked)
            head = _read(wire, 6)
            if head[0] != 2:
                raise SystemExit(f"the answer is a PDU of type {head[0]}")
            _read(wire, int.from_bytes(head[2:], "big"))
            wire.sendall(RELEASE)
            _read(wire, 10)


def _read(wire: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = wire.recv(size - len(data))
        if not more:
            raise SystemExit("the connection was closed")
        data += more
    return data


class Taker:
    """An intake that agrees to everything."""

    def __getattr__(self, name: str) -> Any:
        from twisted.internet.defer import succeed

        return lambda *args, **more: succeed(0)


def serve_broker(port: int, folder: str) -> None:
    """Run the broker's listener until killed."""
    from twisted.internet import reactor as installed
    from twisted.internet.threads import deferToThread

    from broker.connectors.dicom import LISTENER, DicomListener
    from broker.obs.log import Log
    from broker.obs.metrics import Metrics
    from broker.store.spool import Spool

    reactor: Any = installed
    intake: Any = Taker()
    DicomListener("bench", LISTENER.read({"port": port}), reactor, intake, Spool(folder, deferToThread), Metrics(), Log()).start()
    reactor.run()


def serve_pynetdicom(port: int) -> None:
    """Run pynetdicom's acceptor, as its own storescp does, until killed."""
    from pynetdicom import AE, AllStoragePresentationContexts

    ae = AE(ae_title="BROKER")
    ae.maximum_associations = 10_000  # it counts those that have just ended, too
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax)
    ae.start_server(("127.0.0.1", port), block=True)


def measure(who: str, clients: int, count: int) -> float:
    """Return the associations a second."""
    with tempfile.TemporaryDirectory() as folder:
        [port] = free_ports(1)
        command = [sys.executable, __file__, "--serve", who, str(port), folder]
        with running(command, [port], {"PYTHONPATH": str(TOP)}, Path(folder)), ProcessPoolExecutor(clients) as pool:
            asked = request()
            list(pool.map(ask, *zip(*[(port, asked, 5)] * clients, strict=True)))
            began = time.perf_counter()
            list(pool.map(ask, *zip(*[(port, asked, count // clients)] * clients, strict=True)))
            return count / (time.perf_counter() - began)


def run(share: float = 1.0, clients: tuple[int, ...] = (1, 4)) -> None:
    """Measure both and print the ratio."""
    for at_once in clients:
        ours = measure("broker", at_once, int(2000 * share))
        theirs = measure("pynetdicom", at_once, int(300 * share))
        print(f"  {at_once} clients: broker {ours:,.0f} associations/s, pynetdicom {theirs:,.0f}: {ours / theirs:.1f} times", flush=True)


def main() -> None:
    """Measure, or be one of those who are measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--serve", nargs=3, metavar=("WHO", "PORT", "FOLDER"), help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    if options.serve:
        who, port, folder = options.serve
        serve_broker(int(port), folder) if who == "broker" else serve_pynetdicom(int(port))
        return
    run(options.share, tuple(options.clients))


if __name__ == "__main__":
    sys.path.insert(0, str(TOP))
    main()
