"""Hostile and broken input against a broker process: a clear answer, a counter, a log line without patient data, nobody else notices."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification  # type: ignore[attr-defined]

from broker.store.spool import HELD
from tests.peers import FS, TOP, VT, BrokerProcess, Sender, eventually, frames

LIMIT = 8192  # bytes of a message, see `config`
PATIENT = ("QUIXOTE", "ALONSO", "19470923", "LA MANCHA", "Dulcin")
NAME = "QUIXOTE^ALONSO"
ECHO, CT = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2"
ABORT_BY_PROVIDER = 2
REASON = {"unrecognised": 1, "unexpected": 2, "invalid parameter": 6}  # of A-ABORT, PS3.8 table 9-26


def variant(folder: Path, *changes: tuple[str, str]) -> Path:
    """Return a copy of the shipped configuration with some of its text replaced."""
    for name in ("routes", "mappings", "samples"):
        shutil.copytree(TOP / name, folder / name)
    text = (TOP / "channels.yaml").read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = folder / "channels.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    folder = tmp_path_factory.mktemp("bad_input")
    (folder / "config").mkdir()
    config = variant(
        folder / "config",
        ("fallback: windows-1252", f"limit: {LIMIT} B\n      fallback: windows-1252"),
        ('"*": {from: [127.0.0.0/8, "::1"]}', '"*": refuse'),
    )
    process = BrokerProcess(folder, config=config)
    process.start()
    yield process
    assert process.stop() == 0


class Watch:
    """What a test sees of the broker: its counters, and what it has logged since."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker, self._from = broker, broker.log.stat().st_size
        self._before = self._samples()

    def _samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        families = text_string_to_metric_families(self._broker.get("/metrics").decode())
        return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}

    def moved(self, name: str, **labels: str) -> float:
        """Return by how much a counter has moved."""
        key = f"broker_{name}", frozenset(labels.items())
        return self._samples().get(key, 0.0) - self._before.get(key, 0.0)

    def logged(self) -> list[dict[str, Any]]:
        """Return the lines of the log; fails when one of them has patient data in it."""
        with self._broker.log.open("rb") as file:
            file.seek(self._from)
            text = file.read().decode()
        assert not [word for word in PATIENT if word.lower() in text.lower()], text
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def fault(self, listener: str, name: str, count: int = 1) -> None:
        """Wait until a fault is counted and logged."""
        eventually(lambda: self.moved("protocol_errors_total", listener=listener, fault=name) == count, f"fault {name} is counted", 10)
        eventually(lambda: name in [line.get("fault") for line in self.logged()], f"fault {name} is logged", 10)

    def no_fault(self) -> None:
        """No fault of any kind was counted."""
        now, before = (
            {key: value for key, value in samples.items() if "protocol_errors_total" in key[0]}
            for samples in (self._samples(), self._before)
        )
        assert now == before


class Others:
    """Everybody else: an HL7 connection and an association that were there before."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._sender, self._count = Sender(broker.ports["HL7_PORT"]), 0
        ae = AE("CT1")
        ae.add_requested_context(Verification)
        self._association: Association = ae.associate("127.0.0.1", broker.ports["DICOM_PORT"], ae_title="BROKER")
        assert self._association.is_established

    def are_served(self) -> None:
        """Both get their answers."""
        self._count += 1
        assert "|AA|" in self._sender.send(adt(f"OTHER-{id(self)}-{self._count}"[-20:], patient="BYSTANDER"))
        assert self._association.send_c_echo().Status == 0

    def leave(self) -> None:
        """Close."""
        self._sender.close()
        self._association.release()


@pytest.fixture
def watch(broker: BrokerProcess) -> Iterator[Watch]:
    """Others are served before and after each test, and nothing of a patient was logged."""
    others = Others(broker)
    others.are_served()
    watch = Watch(broker)
    yield watch
    others.are_served()
    others.leave()
    watch.logged()


@pytest.fixture
def others(broker: BrokerProcess) -> Iterator[Others]:
    others = Others(broker)
    yield others
    others.leave()


def adt(control_id: str, patient: str = "BAD-1", name: str = NAME, charset: str = "") -> bytes:
    """Return a registration as text in ASCII, with a patient that a log must not show."""
    return (
        f"MSH|^~\\&|BADLY|BEHAVED|BROKER|RAD|20260302073000||ADT^A04^ADT_A01|{control_id}|P|2.5.1||||||{charset}\r"
        f"EVN||20260302073000\rPID|1||{patient}^^^GENHOSP^MR||{name}||19470923|M|||LA MANCHA 1\rPV1|1|O\r"
    ).encode()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield wire


@pytest.fixture
def mllp(broker: BrokerProcess) -> Iterator[socket.socket]:
    with connected(broker.ports["HL7_PORT"]) as wire:
        yield wire


def answers(wire: socket.socket, count: int) -> list[str]:
    """Return so many answers as "code control-id"."""
    found = []
    for raw in frames(wire):
        msa = next(line for line in raw.decode().split("\r") if line.startswith("MSA")).split("|")
        found.append(f"{msa[1]} {msa[2]}")
        if len(found) == count:
            return found
    raise AssertionError(f"closed after {found}")


# frames

FRAMES: dict[str, tuple[bytes, str]] = {
    "without a start block": (adt("LOST-1") + FS, "no_start"),
    "without an end block": (VT + adt("LOST-2"), "no_end"),
    "bytes between frames": (b"QUIXOTE and nothing else", "garbage"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_broken_frame_is_dropped_and_the_next_one_answered(mllp: socket.socket, watch: Watch, others: Others, case: str) -> None:
    sent, fault = FRAMES[case]
    mllp.sendall(sent)
    others.are_served()
    mllp.sendall(VT + adt(f"NEXT {fault}") + FS)
    assert answers(mllp, 1) == [f"AA NEXT {fault}"]
    watch.fault("hospital", fault)


def test_a_frame_that_the_connection_cuts_off_is_not_taken(mllp: socket.socket, watch: Watch, others: Others) -> None:
    mllp.sendall(VT + adt("CUT-1")[:-40])
    others.are_served()
    mllp.close()
    watch.fault("hospital", "truncated")
    assert watch.moved("messages_received_total", listener="hospital", kind="ADT^A04") == 1  # the other one's


@pytest.mark.parametrize("end", [FS, b""], ids=["that ends", "without an end"])
def test_a_frame_over_the_limit_closes_the_connection(mllp: socket.socket, watch: Watch, others: Others, end: bytes) -> None:
    mllp.sendall(VT + adt("BIG-1") + b"NTE|1||" + b"Dulcinea " * (LIMIT // 9) + end)
    assert mllp.recv(100) == b""
    others.are_served()
    watch.fault("hospital", "too_long")


def test_a_frame_of_just_the_limit_is_taken(mllp: socket.socket, watch: Watch) -> None:
    head = adt("FITS-1") + b"NTE|1||"
    mllp.sendall(VT + head + b"x" * (LIMIT - len(head)) + FS)
    assert answers(mllp, 1) == ["AA FITS-1"]
    watch.no_fault()


def test_a_frame_may_come_byte_by_byte(mllp: socket.socket, watch: Watch) -> None:
    framed = VT + adt("SLOW-1") + FS
    for at in range(len(framed)):
        mllp.sendall(framed[at : at + 1])
    assert answers(mllp, 1) == ["AA SLOW-1"]
    watch.no_fault()


def test_two_frames_may_come_at_once(mllp: socket.socket, watch: Watch) -> None:
    mllp.sendall(VT + adt("TWO-1") + FS + VT + adt("TWO-2") + FS)
    assert answers(mllp, 2) == ["AA TWO-1", "AA TWO-2"]
    watch.no_fault()


def test_a_peer_that_never_speaks_mllp_is_given_up(mllp: socket.socket, watch: Watch, others: Others) -> None:
    mllp.sendall(b"GET /QUIXOTE HTTP/1.1\x1c\r" * 20)
    with suppress(ConnectionError):  # closed or reset: some of it may have been on the way
        assert mllp.recv(100) == b""
    others.are_served()
    watch.fault("hospital", "too_many")


# messages


def test_other_delimiters_are_read_and_answered_in_kind(broker: BrokerProcess, mllp: socket.socket, watch: Watch) -> None:
    sample = (TOP / "samples" / "orm_ct.hl7").read_bytes().replace(b"4711", b"DELIM-1").replace(b"P1^", b"DELIM-P1^")
    translated = sample.translate(bytes.maketrans(b"|^~\\&", b"#*!/%")).replace(b"ORM0001", b"DELIM-1")
    mllp.sendall(VT + translated + FS)
    answer = next(frames(mllp)).decode()
    assert answer.startswith("MSH#*!/%#BROKER#RAD#EHR#GENHOSP#")
    assert "\rMSA#AA#DELIM-1" in answer
    assert worklist(broker, "DELIM-1") == ["DOE^JANE^Q"]


@pytest.mark.parametrize(
    ("charset", "name", "codec"),
    [
        ("UNICODE UTF-8", "MÜLLER^DULCINÉE", "utf-8"),
        ("8859/1", "MÜLLER^DULCINÉE", "latin-1"),
        ("", "MÜLLER^DULCINÉE", "utf-8"),  # none: the listener's
        ("", "MÜLLER^DULCINÉE", "latin-1"),  # none, and not the listener's: its fallback
        ("UNICODE UTF-8", "MÜLLER^DULCINÉE", "latin-1"),  # the wrong one: the fallback
        ("ASCII", "MÜLLER^DULCINÉE", "latin-1"),
        ("KLINGON", "MÜLLER^DULCINÉE", "utf-8"),  # one that nobody knows: the listener's
        ("KLINGON", "MÜLLER^DULCINÉE", "latin-1"),
    ],
)
def test_a_wrong_or_missing_character_set_spoils_no_name(
    broker: BrokerProcess, mllp: socket.socket, watch: Watch, charset: str, name: str, codec: str
) -> None:
    patient = f"CHARSET-{charset[:5]}-{codec}".replace(" ", "").replace("/", "")
    sample = (TOP / "samples" / "orm_ct.hl7").read_text().replace("\n", "\r").replace("4711", patient).replace("P1^", f"{patient}^")
    sample = sample.replace("DOE^JANE^Q", name).replace("|P|2.3.1", f"|P|2.3.1||||||{charset}").replace("ORM0001", patient[-20:])
    mllp.sendall(VT + sample.encode(codec) + FS)
    assert answers(mllp, 1) == [f"AA {patient[-20:]}"]
    assert worklist(broker, patient) == [name]


NOT_HL7 = {
    "text": b"QUIXOTE ALONSO 19470923",
    "nothing": b"",
    "a header that ends at once": b"MSH|^~",
    "zeros": b"MSH" + bytes(20),
    "another segment first": b"PID|1||X||QUIXOTE^ALONSO\r",
}


@pytest.mark.parametrize("case", NOT_HL7)
def test_what_is_not_hl7_is_answered_ar(mllp: socket.socket, watch: Watch, case: str) -> None:
    mllp.sendall(VT + NOT_HL7[case] + FS)
    assert answers(mllp, 1)[0].startswith("AR")
    assert watch.moved("messages_acknowledged_total", listener="hospital", code="AR") == 1
    assert [line for line in watch.logged() if line.get("event") == "message refused"]


def worklist(broker: BrokerProcess, patient_id: str) -> list[str]:
    """Return the names in the worklist of a patient."""
    ae = AE("CT1")
    ae.add_requested_context(ModalityWorklistInformationFind)
    association = ae.associate("127.0.0.1", broker.ports["DICOM_PORT"], ae_title="BROKER")
    query = Dataset()
    query.SpecificCharacterSet, query.PatientID, query.PatientName = "ISO_IR 192", patient_id, ""
    found = [str(entry.PatientName) for _, entry in association.send_c_find(query, ModalityWorklistInformationFind) if entry]
    association.release()
    return found


# PDUs


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def associate(calling: str = "CT1", called: str = "BROKER", abstract: str = ECHO) -> bytes:
    """Return an A-ASSOCIATE-RQ of one presentation context, number 1."""
    context = bytes((1, 0, 0, 0)) + item(0x30, abstract.encode()) + item(0x40, b"1.2.840.10008.1.2")
    user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4")
    items = item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return pdu(1, struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode()) + items)


def p_data(control: int, data: bytes, context: int = 1) -> bytes:
    """Return a P-DATA-TF of one fragment; control: 1 command, 2 last."""
    return pdu(4, struct.pack(">IBB", len(data) + 2, context, control) + data)


def store_command() -> bytes:
    """Return the command set of a C-STORE-RQ, implicit little endian."""

    def element(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0, tag, len(value)) + value

    body = element(0x0002, CT.encode() + b"\0") + element(0x0100, b"\x01\x00") + element(0x0110, b"\x01\x00")
    body += element(0x0700, b"\x00\x00") + element(0x0800, b"\x01\x00") + element(0x1000, b"1.2.3.4.5.6\0")
    return element(0x0000, struct.pack("<I", len(body))) + body


NOTHING_OPEN: dict[str, tuple[bytes, str]] = {
    "a PDU of an unknown type": (pdu(0x42, b"QUIXOTE"), "unrecognised PDU"),
    "a giant request": (struct.pack(">BxI", 1, 1 << 31) + b"QUIXOTE", "PDU length"),
    "a request whose items are cut off": (pdu(1, associate()[6:120]), "A-ASSOCIATE cannot be decoded"),
    "a request of nothing": (pdu(1, b""), "A-ASSOCIATE cannot be decoded"),
    "data before an association": (p_data(3, b"QUIXOTE"), "unexpected PDU"),
    "a release before an association": (pdu(5, bytes(4)), "unexpected PDU"),
    "an acceptance of what was not asked": (pdu(2, associate()[6:]), "unexpected PDU"),
    "HTTP": (b"GET /QUIXOTE HTTP/1.1\r\n\r\n", "unrecognised PDU"),
}
ASSOCIATED: dict[str, tuple[bytes, str, int]] = {
    "a PDU of an unknown type": (pdu(0x42, b"QUIXOTE"), "unrecognised PDU", REASON["unrecognised"]),
    "giant data": (struct.pack(">BxI", 4, 1 << 31) + b"QUIXOTE", "P-DATA length", REASON["invalid parameter"]),
    "data of nothing": (pdu(4, b""), "P-DATA length", REASON["invalid parameter"]),
    "a fragment longer than its PDU": (pdu(4, struct.pack(">IBB", 9999, 1, 3)), "PDV length", REASON["invalid parameter"]),
    "another request": (associate(), "unexpected PDU", REASON["unexpected"]),
    "an unknown context": (p_data(3, b"QUIXOTE", context=9), "presentation context not accepted", REASON["invalid parameter"]),
    "a command set that is none": (p_data(3, b"QUIXOTE ALONSO"), "command set", REASON["invalid parameter"]),
    "data before a command": (p_data(2, b"QUIXOTE"), "command and data out of order", 5),
}


@pytest.fixture
def dicom(broker: BrokerProcess) -> Iterator[socket.socket]:
    with connected(broker.ports["DICOM_PORT"]) as wire:
        yield wire


def everything(wire: socket.socket) -> bytes:
    """Return what comes until the broker closes."""
    found = b""
    while data := wire.recv(65536):
        found += data
    return found


@pytest.mark.parametrize("case", NOTHING_OPEN)
def test_a_bad_pdu_before_an_association_is_aborted(dicom: socket.socket, watch: Watch, others: Others, case: str) -> None:
    sent, fault = NOTHING_OPEN[case]
    dicom.sendall(sent)
    answer = dicom.recv(10)
    assert answer[:6] == struct.pack(">BxI", 7, 4)
    others.are_served()
    watch.fault("modalities", fault)


@pytest.mark.parametrize("case", ASSOCIATED)
def test_a_bad_pdu_in_an_association_is_aborted(dicom: socket.socket, watch: Watch, others: Others, case: str) -> None:
    sent, fault, reason = ASSOCIATED[case]
    dicom.sendall(associate())
    assert dicom.recv(65536)[0] == 2
    dicom.sendall(sent)
    assert dicom.recv(10) == struct.pack(">BxIBBBB", 7, 4, 0, 0, ABORT_BY_PROVIDER, reason)
    others.are_served()
    watch.fault("modalities", fault)


def test_a_request_without_ae_titles_is_rejected(dicom: socket.socket, watch: Watch) -> None:
    dicom.sendall(associate("", ""))
    assert dicom.recv(10) == struct.pack(">BxIBBBB", 3, 4, 0, 1, 1, 7)  # for good, by the user, called AE title not recognised
    watch.no_fault()


def test_a_request_may_come_byte_by_byte(dicom: socket.socket, watch: Watch) -> None:
    for byte in associate():
        dicom.sendall(bytes((byte,)))
    assert dicom.recv(65536)[0] == 2
    watch.no_fault()


@pytest.mark.parametrize("kept", [3, 40], ids=["in the head", "in the items"])
def test_a_request_that_the_connection_cuts_off_is_counted(dicom: socket.socket, watch: Watch, others: Others, kept: int) -> None:
    dicom.sendall(associate()[:kept])
    others.are_served()
    dicom.close()
    watch.fault("modalities", "truncated")


def test_an_object_that_the_connection_cuts_off_leaves_nothing(
    broker: BrokerProcess, dicom: socket.socket, watch: Watch, others: Others
) -> None:
    dicom.sendall(associate(abstract=CT))
    assert dicom.recv(65536)[0] == 2
    much = struct.pack("<HHI", 0x10, 0x10, 14) + NAME.encode() + bytes(HELD)  # what is less waits in memory
    dicom.sendall(p_data(3, store_command()) + p_data(0, much))
    others.are_served()
    spool = broker.folder / "data" / "spool"
    eventually(lambda: _files(spool), "the object is being written", 10)
    dicom.close()
    eventually(lambda: not _files(spool), "the spool is empty again", 10)
    assert watch.moved("objects_received_total", listener="modalities") == 0
    watch.fault("modalities", "truncated")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# associations


@pytest.mark.parametrize(
    ("calling", "called", "reason", "said", "shown"),
    [
        ("CT9", "BROKER", 3, "calling AE title not recognised", b"Calling AE Title Not Recognized"),
        ("CT1", "SOMEONE", 7, "called AE title not recognised", b"Called AE Title Not Recognized"),
    ],
)
def test_an_association_that_is_not_allowed_is_rejected_with_the_reason(
    broker: BrokerProcess,
    dicom: socket.socket,
    watch: Watch,
    others: Others,
    calling: str,
    called: str,
    reason: int,
    said: str,
    shown: bytes,
) -> None:
    dicom.sendall(associate(calling, called))
    assert after_reject(dicom) == struct.pack(">BxIxBBB", 3, 4, 1, 1, reason)
    others.are_served()
    assert watch.moved("associations_rejected_total", listener="modalities", reason=said) == 1
    assert said in [line.get("reason") for line in watch.logged()]
    path = shutil.which("echoscu")
    assert path, "DCMTK's echoscu is needed"
    done = subprocess.run(
        [path, "-aet", calling, "-aec", called, "127.0.0.1", str(broker.ports["DICOM_PORT"])], capture_output=True, timeout=30
    )
    assert done.returncode != 0
    assert shown in done.stdout + done.stderr


def after_reject(wire: socket.socket) -> bytes:
    answer = wire.recv(10)
    wire.shutdown(socket.SHUT_WR)  # the requestor closes (PS3.8, AA-2 would only do so after ARTIM)
    assert everything(wire) == b""
    return answer


# configuration

MISTAKES: dict[str, tuple[str, str, str]] = {
    "an unknown key": ("    unmatched: reject", "    unmatchd: reject", "unknown key unmatchd"),
    "a duplicate key": ("  billing:\n    mllp:", "  ehr:\n    mllp:", "key ehr stands here again"),
    "a missing table": ("stations: stations", "stations: scanners", "there is no table scanners"),
    "two listeners on one port": ("port: ${DICOM_PORT:-11112}", "port: ${HL7_PORT:-2575}", "share port"),
}


def checked(folder: Path, *changes: tuple[str, str]) -> tuple[Path, subprocess.CompletedProcess[str]]:
    path = variant(folder, *changes)
    return path, BrokerProcess(folder, config=path).command("check")


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_the_configuration_is_said_with_its_place(tmp_path: Path, case: str) -> None:
    old, new, what = MISTAKES[case]
    path, done = checked(tmp_path, (old, new))
    said = [line for line in (done.stdout + done.stderr).splitlines() if what in line]
    assert done.returncode == 2, done.stdout + done.stderr
    assert said
    assert said[0].startswith(f"{path}:{_line_of(path, new, case)}: ")


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    path, done = checked(tmp_path, *((old, new) for old, new, _ in MISTAKES.values()))
    said = done.stdout + done.stderr
    assert done.returncode == 2
    for case, (_, new, what) in MISTAKES.items():
        assert [line for line in said.splitlines() if what in line and line.startswith(f"{path}:{_line_of(path, new, case)}: ")], said


def _line_of(path: Path, text: str, case: str) -> int:
    """Return the line of the mistake: of a text that stands there twice, the second one."""
    whole = path.read_text()
    start = whole.rfind(text) if case in ("two listeners on one port", "a duplicate key") else whole.find(text)
    return whole[:start].count("\n") + 1


def test_a_table_that_a_route_names_is_missed_at_the_route(tmp_path: Path) -> None:
    path = variant(tmp_path)
    (tmp_path / "mappings" / "order_control.csv").unlink()
    done = BrokerProcess(tmp_path, config=path).command("check")
    route = tmp_path / "routes" / "orders.yaml"
    line = next(number for number, text in enumerate(route.read_text().splitlines(), 1) if "vocabulary: order_control" in text)
    assert done.returncode == 2
    assert f"{route}:{line}: " in done.stdout + done.stderr
    assert "order_control" in done.stdout + done.stderr
