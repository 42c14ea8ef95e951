"""A broker process and independent peers over real sockets: TLS, IPv6, reversed roles, shared connections, python-hl7, odd endings."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7.client import MLLPClient
from prometheus_client.parser import text_string_to_metric_families

from tests.peers import FS, VT, BrokerProcess, Sink, acknowledgement, eventually, frames, free_ports
from tests.security.certificates import Authority, Pair

PORTS = ("HL7_PORT", "DICOM_PORT", "WEB_PORT", "TLS_PORT", "V6_PORT", "DIAL_PORT", "SHARED_PORT", "ARCHIVE_TLS_PORT", "SLOW_PORT")

CONFIG = """\
version: 1
site: {{authority: GENHOSP}}
data: "${{BROKER_DATA}}"
web: {{port: {ports[WEB_PORT]}}}
listeners:
  plain: {{mllp: {{port: {ports[HL7_PORT]}, connections_per_peer: 20, stalled: 2s}}}}
  secure:
    mllp:
      port: {ports[TLS_PORT]}
      tls: {{certificate: {broker.certificate}, key: {broker.key}, authorities: {authority}, names: [ehr.example.org]}}
  six: {{mllp: {{port: {ports[V6_PORT]}, bind: "::1", from: "::1"}}}}
  nobody: {{mllp: {{port: {ports[DICOM_PORT]}, from: 192.0.2.0/24}}}}
  dialled: {{mllp: {{connect: "127.0.0.1:{ports[DIAL_PORT]}"}}}}
  shared: {{mllp: {{port: {ports[SHARED_PORT]}}}}}
destinations:
  archive:
    mllp:
      host: localhost
      port: {ports[ARCHIVE_TLS_PORT]}
      tls: {{certificate: {broker.certificate}, key: {broker.key}, authorities: {authority}}}
      retry: {{first: 100ms, most: 100ms}}
  back: {{mllp: {{over: shared, retry: {{first: 100ms, most: 100ms}}}}}}
  slow: {{mllp: {{host: 127.0.0.1, port: {ports[SLOW_PORT]}, connections: 3, retry: {{first: 100ms, most: 100ms}}}}}}
channels:
  plain: {{from: plain, route: routes/archive.yaml}}
  secure: {{from: secure, route: routes/nowhere.yaml}}
  six: {{from: six, route: routes/nowhere.yaml}}
  nobody: {{from: nobody, route: routes/nowhere.yaml}}
  dialled: {{from: dialled, route: routes/nowhere.yaml}}
  shared: {{from: shared, route: routes/back.yaml}}
"""
ROUTES = {
    "archive": """
description: To the archive in TLS, answered when it is there; or to three at a time.
answer: delivered
patience: 20s
to:
  - {when: MSH-9.2 = A04, send: archive}
  - {when: MSH-9.2 = A08, send: slow}
""",
    "back": "description: Back over the connection it came by.\nto:\n  - {send: back}\n",
    "nowhere": "description: Kept.\nanswer: received\nsteps:\n  - drop: nobody wants it\n",
}


def adt(id: str, event: str = "A04", asks: str = "", patient: str = "4711") -> bytes:
    return (
        f"MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302073000||ADT^{event}^ADT_A01|{id}|P|2.5.1{asks}\r"
        f"PID|1||{patient}^^^GENHOSP^MR||QUIXOTE^ALONSO||19470923|M\r"
    ).encode()


class Place:
    """The broker, and the files of its certificates."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.own = self.authority.issue("broker", "127.0.0.1", "localhost")
        self.ehr = self.authority.issue("gateway", "ehr.example.org")
        self.other = self.authority.issue("somebody", "else.example.org")
        (folder / "routes").mkdir()
        for name, text in ROUTES.items():
            (folder / f"routes/{name}.yaml").write_text(text)
        config = folder / "channels.yaml"
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        config.write_text(CONFIG.format(broker=self.own, authority=self.authority.file, ports=ports))
        self.broker = BrokerProcess(folder, ports=ports, config=config)

    def port(self, name: str) -> int:
        return self.broker.ports[name]

    def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(self.broker.get("/metrics").decode())
        found = [one.value for family in families for one in family.samples if one.name == f"broker_{name}" and one.labels == labels]
        return found[0] if found else 0.0

    def log(self) -> str:
        return self.broker.log.read_text()

    def client(self, pair: Pair | None, **more: Any) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.file)
        if pair:
            context.load_cert_chain(pair.certificate, pair.key)
        for name, value in more.items():
            setattr(context, name, value)
        return context


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("connections"))
    made.broker.start()
    yield made
    assert made.broker.stop() == 0
    assert "QUIXOTE" not in made.log()
    assert "4711" not in made.log()


@contextmanager
def connected(port: int, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection((host, port), timeout=20) as wire:
        if context is None:
            yield wire
        else:
            with context.wrap_socket(wire, server_hostname=host) as secure:
                yield secure


def told(wire: socket.socket, count: int = 1) -> list[str]:
    """Return so many answers, as "AA A1"."""
    found = []
    for raw in frames(wire):
        msa = raw.decode().split("\r")[1].split("|")
        found.append(f"{msa[1]} {msa[2]}")
        if len(found) == count:
            break
    return found


class TlsSink(Sink):
    """A receiver that speaks TLS and wants to know who calls."""

    def __init__(self, port: int, place: Place, pair: Pair) -> None:
        super().__init__(port)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=place.authority.file)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._context.verify_mode = ssl.CERT_REQUIRED

    def start(self) -> None:
        super().start()
        assert self._server
        self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)


# -- TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_sender_with_a_certificate_of_the_listed_name(place: Place, version: ssl.TLSVersion) -> None:
    context = place.client(place.ehr, maximum_version=version)
    with connected(place.port("TLS_PORT"), context) as wire:
        wire.sendall(VT + adt(f"T{version.value}") + FS)
        assert told(wire) == [f"AA T{version.value}"]


def test_openssl_as_a_sender(place: Place) -> None:
    id, port = "OPENSSL-1", place.port("TLS_PORT")
    files = ["-cert", place.ehr.certificate, "-key", place.ehr.key, "-CAfile", place.authority.file, "-verify_return_error"]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-no_ign_eof", *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(VT + adt(id) + FS)
        process.stdin.flush()
        answer = b""
        while FS not in answer:
            answer += process.stdout.read1(4096)
        process.kill()
    assert f"MSA|AA|{id}".encode() in answer


def refused(port: int, context: ssl.SSLContext | None) -> None:
    """Expect that nothing is answered."""
    with suppress(ssl.SSLError, ConnectionError), connected(port, context) as wire:
        wire.sendall(VT + adt("NEVER") + FS)
        assert wire.recv(100) == b""


def test_others_are_turned_away_and_counted(place: Place) -> None:
    port = place.port("TLS_PORT")

    def counted(fault: str) -> float:
        return place.metric("protocol_errors_total", listener="secure", fault=fault)

    before = counted("tls"), counted("not_allowed")
    refused(port, place.client(None))
    refused(port, None)
    eventually(lambda: counted("tls") == before[0] + 2, "no certificate, and no TLS, are counted")
    refused(port, place.client(place.other))
    eventually(lambda: counted("not_allowed") == before[1] + 1, "a certificate of another name is counted")
    assert "no certificate that may connect" in place.log()
    assert "NEVER" not in place.broker.command("messages", "--json").stdout


def test_a_certificate_that_is_replaced_is_used_for_the_next_connection(place: Place) -> None:
    def serial(wire: Any) -> str:
        return str(wire.getpeercert()["serialNumber"])

    with connected(place.port("TLS_PORT"), place.client(place.ehr)) as before:
        place.authority.issue("broker", "127.0.0.1", "localhost", days=100)
        with connected(place.port("TLS_PORT"), place.client(place.ehr)) as after:
            assert serial(after) != serial(before)
        before.sendall(VT + adt("STILL-1") + FS)
        assert told(before) == ["AA STILL-1"]
    assert place.metric("certificate_expires_seconds", where="secure") > 0


def test_a_delivery_in_tls_whose_outcome_is_the_answer(place: Place) -> None:
    with connected(place.port("HL7_PORT")) as wire:
        wire.sendall(VT + adt("D1") + FS + VT + adt("D2", asks="|||AL|AL") + FS)
        wrong = TlsSink(place.port("ARCHIVE_TLS_PORT"), place, place.ehr)  # not for this name
        wrong.start()
        eventually(lambda: "the certificate of the peer is not for its name" in place.log(), "a receiver of another name gets nothing")
        wrong.stop()
        assert wrong.received == []
        right = TlsSink(place.port("ARCHIVE_TLS_PORT"), place, place.own)
        right.start()
        try:
            assert told(wire, 3) == ["AA D1", "CA D2", "AA D2"]
            right.code = "AE"
            wire.sendall(VT + adt("D3") + FS)
            assert told(wire) == ["AE D3"]
            assert [raw.split(b"|")[9] for raw in right.received] == [b"D1", b"D2", b"D3"]
        finally:
            right.stop()


# -- who, and how


def test_ipv6(place: Place) -> None:
    with connected(place.port("V6_PORT"), host="::1") as wire:
        wire.sendall(VT + adt("SIX-1") + FS)
        assert told(wire) == ["AA SIX-1"]


def test_an_address_that_is_not_listed(place: Place) -> None:
    refused(place.port("DICOM_PORT"), None)
    eventually(lambda: place.metric("protocol_errors_total", listener="nobody", fault="not_allowed") >= 1, "it is counted")


@pytest.mark.parametrize("kind", ["HL7_PORT", "TLS_PORT"])
def test_a_health_probe_is_a_probe_and_no_fault(place: Place, kind: str) -> None:
    listener = {"HL7_PORT": "plain", "TLS_PORT": "secure"}[kind]
    before, size = place.metric("probes_total", listener=listener), len(place.log())
    for linger in (False, True):
        with socket.create_connection(("127.0.0.1", place.port(kind))) as wire:
            if linger:  # closes with a reset, as some load balancers do
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: place.metric("probes_total", listener=listener) == before + 2, "both are counted")
    assert place.log()[size:] == ""


def test_python_hl7_as_a_sender(place: Place) -> None:
    with MLLPClient("127.0.0.1", place.port("HL7_PORT")) as client:
        answer = hl7.parse(client.send_message(adt("PY-1", event="A31").decode()))
    assert [str(answer.segment("MSA")[n]) for n in (1, 2)] == ["AA", "PY-1"]


def test_a_sender_that_ends_its_half_after_the_message_is_answered(place: Place) -> None:
    with connected(place.port("V6_PORT"), host="::1") as wire:
        wire.sendall(VT + adt("HALF-1") + FS)
        wire.shutdown(socket.SHUT_WR)
        assert told(wire) == ["AA HALF-1"]
        assert wire.recv(10) == b""


@pytest.mark.parametrize("end", [b"\x1c", b"\r\x1c", b"\x1c\n"])
def test_frames_that_end_in_other_ways(place: Place, end: bytes) -> None:
    id = f"END-{end.hex()}"
    with connected(place.port("V6_PORT"), host="::1") as wire:
        wire.sendall(VT + adt(id).rstrip(b"\r") + end)
        if end.endswith(b"\n"):
            wire.shutdown(socket.SHUT_WR)  # FS LF is no end block: only the next message or the end shows what was meant
            assert wire.recv(10) == b""
        else:
            assert told(wire) == [f"AA {id}"]


def test_a_sender_that_stops_inside_a_message(place: Place) -> None:
    with connected(place.port("HL7_PORT")) as wire:
        wire.sendall(VT + adt("HALT-1"))
        assert wire.recv(10) == b""
    log = place.log()
    assert '"fault": "stalled"' in log


# -- roles reversed, and one connection for both directions


def test_the_broker_connects_to_a_sender_that_waits_for_it(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.port("DIAL_PORT"))) as server:
        server.settimeout(40)
        for id in ("REV-1", "REV-2"):  # it connects again
            wire, _ = server.accept()
            with wire:
                wire.settimeout(20)
                wire.sendall(VT + adt(id) + FS)
                assert told(wire) == [f"AA {id}"]


def test_one_connection_for_both_directions(place: Place) -> None:
    """What is sent comes back over the same connection, between other messages, and is acknowledged there."""
    port, got, answered = place.port("SHARED_PORT"), list[bytes](), list[str]()
    with connected(port) as wire:
        over = threading.Event()

        def read() -> None:
            for raw in frames(wire):
                if b"\rMSA|" in raw:
                    answered.append(raw.decode().split("\rMSA|")[1].split("|")[1].strip())
                else:
                    got.append(raw)
                    wire.sendall(VT + acknowledgement(raw, "AA") + FS)
                if len(got) == len(answered) == 20:
                    over.set()
                    return

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        for number in range(20):
            wire.sendall(VT + adt(f"BOTH-{number}", event="A31", patient=str(number)) + FS)
        assert over.wait(20), (len(got), answered)
    assert answered == [f"BOTH-{number}" for number in range(20)]
    assert [raw.split(b"|")[9].decode() for raw in got] == answered
    eventually(lambda: place.metric("deliveries_settled_total", destination="back") >= 20, "all are settled")


def test_several_connections_to_one_receiver(place: Place) -> None:
    """The receiver answers nothing before three messages of three patients are there, each on its own connection."""
    both, wires = threading.Barrier(3, timeout=20), list[Any]()

    def serve(wire: socket.socket) -> None:
        for raw in frames(wire):
            both.wait()
            wire.sendall(VT + acknowledgement(raw, "AA") + FS)

    with socket.create_server(("127.0.0.1", place.port("SLOW_PORT"))) as server, connected(place.port("HL7_PORT")) as sender:
        server.settimeout(20)
        for number in range(3):
            sender.sendall(VT + adt(f"WIDE-{number}", event="A08", patient=f"W{number}") + FS)
        for _ in range(3):
            wire, _ = server.accept()
            wires.append(wire)
            threading.Thread(target=serve, args=(wire,), daemon=True).start()
        assert told(sender, 3) == [f"AA WIDE-{number}" for number in range(3)]
        for wire in wires:
            wire.close()


def test_the_status_shows_where_everything_is(place: Place) -> None:
    shown = place.broker.json("/api/status")
    assert {one["name"]: one["address"] for one in shown["listeners"]}["dialled"] == f"to 127.0.0.1:{place.port('DIAL_PORT')}"
    assert {one["name"]: one["address"] for one in shown["destinations"]}["back"] == "over shared"
