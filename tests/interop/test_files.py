"""The broker as a process between folders and MLLP: files in and out, batches over a connection, and killed in between."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.peers import BrokerProcess, Sender, Sink, eventually

CONFIG = """\
version: 1
site: {name: Test, authority: H}
data: ${BROKER_DATA}
web:
  port: ${WEB_PORT}
listeners:
  night:
    file: {folder: "${FOLDER}/in", every: 100ms, settle: 0s, answers: answers}
  hospital:
    mllp:
      port: ${HL7_PORT}
destinations:
  ehr:
    mllp:
      host: 127.0.0.1
      port: ${EHR_HL7_PORT}
  drop: {file: {folder: "${FOLDER}/out", name: "{control_id}.hl7", checksum: sha256}}
channels:
  files: {from: night, route: pass.yaml}
  stream: {from: hospital, route: pass.yaml}
"""
ROUTE = """\
description: Everything goes to both, without the document to the folder.
accept: MSH-9.1 in [ADT, ORU]
steps:
  - extract: {what: attachments, over: 1 KB}
to:
  - send: ehr
    steps: [restore: attachments]
  - send: drop
"""
MESSAGE = "MSH|^~\\&|EHR|H|B|R|20260302||{kind}|{id}|P|2.5.1\rPID|1||{patient}^^^H||DOE^JANE\r"


def message(id: str, kind: str = "ADT^A04", patient: str = "4711") -> str:
    return MESSAGE.format(kind=kind, id=id, patient=patient)


class Site:
    """A broker of its own configuration, its folders, and the EHR."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("in", "out"):
            (folder / name).mkdir()
        (folder / "channels.yaml").write_text(CONFIG)
        (folder / "pass.yaml").write_text(ROUTE)
        self.broker = BrokerProcess(folder, config=folder / "channels.yaml", extra={"FOLDER": str(folder)})
        self.ehr = Sink(self.broker.ports["EHR_HL7_PORT"])
        self.ehr.start()

    def put(self, name: str, text: str) -> None:
        """Move a whole file in, as a careful sender does."""
        part = self.folder / f".{name}"
        part.write_bytes(text.encode())
        part.rename(self.folder / "in" / name)

    def files(self, folder: str) -> list[str]:
        path = self.folder / folder
        return sorted(one.name for one in path.iterdir() if one.is_file() and one.name[0] != ".") if path.exists() else []

    def sent(self) -> list[str]:
        """Return the control ids of what reached the EHR."""
        return [raw.split(b"|")[9].decode() for raw in list(self.ehr.received)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.ehr.stop()
    if made.broker.process and made.broker.process.poll() is None:
        made.broker.kill()


def test_files_come_in_and_go_out(site: Site) -> None:
    site.broker.start()
    site.put("b.hl7", "BHS|^~\\&|EHR|H\r" + message("B1") + message("B2") + "BTS|2\r")
    site.put("a.hl7", message("A1"))
    site.put("c.hl7", message("C1") + message("C2", kind="MFN^M02"))
    eventually(lambda: site.files("in/failed") == ["c.hl7", "c.hl7.why"], "the file with a refused message is set aside")
    assert (site.folder / "in/failed/c.hl7.why").read_text() == "message 2: AR MSH-9: no channel accepts this message\n"
    assert site.files("in/archive") == ["a.hl7", "b.hl7"]
    assert site.files("in/answers") == ["a.hl7.ack", "b.hl7.ack", "c.hl7.ack"]
    eventually(lambda: site.sent() == ["A1", "B1", "B2", "C1"], "all arrive in the order of the files")
    eventually(lambda: len(site.files("out")) == 8, "four files with their checksums")
    for name in ("A1", "B1", "B2", "C1"):
        content = (site.folder / f"out/{name}.hl7").read_bytes()
        assert content.decode() == message(name)
        assert (site.folder / f"out/{name}.hl7.sha256").read_text().split() == [hashlib.sha256(content).hexdigest(), f"{name}.hl7"]
    assert site.broker.stop() == 0


def test_a_batch_over_mllp_is_answered_with_a_batch(site: Site) -> None:
    site.broker.start()
    sender = Sender(site.broker.ports["HL7_PORT"])
    count = 200
    text = "BHS|^~\\&|EHR|H|B|R|2026||||B7\r" + "".join(message(f"S{n}") for n in range(count)) + f"BTS|{count + 1}\r"
    answer = sender.send(text)
    assert answer.count("MSA|AA|") == count
    assert answer.startswith("BHS|^~\\&|B|R|EHR|H|")
    assert answer.endswith(f"BTS|{count}|BTS-1 says {count + 1}, there are {count} messages\r")
    assert "MSA|AA|ONE" in sender.send(message("ONE"))
    eventually(lambda: site.sent() == [*(f"S{n}" for n in range(count)), "ONE"], "all arrive in their order")


def test_a_document_is_taken_out_for_one_and_put_back_for_the_other(site: Site) -> None:
    site.broker.start()
    pdf = os.urandom(400_000).hex()
    report = message("R1", kind="ORU^R01") + f"OBX|1|ED|PDF||^application^pdf^Hex^{pdf}||||||F\rOBX|2|TX|X||end\r"
    assert "MSA|AA|R1" in Sender(site.broker.ports["HL7_PORT"]).send(report)
    eventually(lambda: site.sent() == ["R1"], "the report reaches the EHR")
    assert site.ehr.received[0] == report.encode()
    eventually(lambda: site.files("out")[:1] == ["R1.hl7"], "the report is in the folder")
    dropped = (site.folder / "out/R1.hl7").read_bytes()
    assert len(dropped) < 1000
    assert b"OBX|1|RP|PDF||attachment:ED:Hex:" in dropped


def test_killed_while_it_picks_up_nothing_is_lost_and_nothing_is_taken_in_twice(site: Site) -> None:
    numbers = iter(range(1_000_000))
    expected = []
    for round_ in range(4):
        site.broker.start()
        for file in range(12):
            ids = [f"K{next(numbers)}" for _ in range(20)]
            expected += ids
            site.put(f"{round_}-{file:02}.hl7", "".join(message(id) for id in ids))
        before = len(site.files("in/archive"))
        eventually(lambda least=before + 1 + 2 * round_: len(site.files("in/archive")) >= least, "some files are through")  # type: ignore[misc]
        site.broker.kill()
    site.broker.start()
    eventually(lambda: not site.files("in"), "all files are taken in")
    assert len(site.files("in/archive")) == 48
    assert site.files("in/failed") == []
    eventually(lambda: set(site.sent()) == set(expected), "all messages arrive")
    eventually(lambda: len(site.files("out")) == 2 * len(expected), "each message is one file, however often it was sent")
    assert site.broker.stop() == 0
    with closing(sqlite3.connect(site.folder / "data/broker.db")) as db:
        assert db.execute("select count(*), count(distinct control_id) from message").fetchall() == [(len(expected), len(expected))]
