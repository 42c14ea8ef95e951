"""A document in a message is kept once, and put back for the destination that wants it."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from broker.config.load import load
from broker.config.models import Config
from broker.connectors import registry
from broker.engine.attachments import Attaching
from broker.errors import Refused, Retry, StoreError
from broker.hl7.message import Message
from broker.model import Delivery
from broker.store import attachments
from tests.engine.house import House

CHANNELS = """\
version: 1
site: {name: Test, authority: H}
listeners:
  hospital: {mllp: {port: 2575}}
destinations:
  archive: {mllp: {host: 127.0.0.1, port: 2576}}
  ehr: {mllp: {host: 127.0.0.1, port: 2577}}
channels:
  reports: {from: hospital, route: reports.yaml}
"""
ROUTE = """\
description: Reports with their document to the archive, without it to the EHR.
accept: MSH-9.1 = ORU
steps:
  - extract: {what: attachments, over: 100 B}
to:
  - send: archive
    steps: [restore: attachments]
  - send: ehr
"""
PDF = "JVBERi0xLjQK" * 1000
REPORT = (
    "MSH|^~\\&|RIS|H|B|R|2026||ORU^R01|C1|P|2.5.1\rPID|1||4711\rOBR|1\r"
    f"OBX|1|ED|PDF||^application^pdf^Base64^{PDF}||||||F\rOBX|2|TX|X||text ü\r"
)


class Peer:
    """Takes everything."""

    name = "archive"
    width = 1

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def send(self, delivery: Delivery) -> Deferred[str]:
        self.sent.append(delivery.payload)
        return succeed("AA")

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("site")
    (folder / "channels.yaml").write_text(CHANNELS)
    (folder / "reports.yaml").write_text(ROUTE)
    return load(folder / "channels.yaml", {}, registry)


@pytest.fixture
def house(tmp_path: Path, config: Config) -> House:
    return House(tmp_path, config)


def by_destination(house: House) -> dict[str, Delivery]:
    return {delivery.destination: delivery for delivery in house.sent}


def test_the_queue_holds_the_document_once_and_who_wants_it_gets_it_back(house: House) -> None:
    assert "MSA|AA|C1" in house.say(REPORT)
    sent, peer = by_destination(house), Peer()
    assert all(len(delivery.payload) < 1000 for delivery in sent.values())
    assert house.rows("select count(*), max(length(content)) from attachment") == [(1, len(PDF))]
    assert house.wait(Attaching(peer, house.db).send(sent["archive"])) == "AA"
    assert house.wait(Attaching(peer, house.db).send(sent["ehr"])) == "AA"
    restored, pointing = peer.sent
    assert restored == REPORT.encode()
    assert Message.parse(pointing).get("OBX-2") == "RP"
    assert Message.parse(pointing).get("OBX-5.1").startswith("attachment:ED:Base64:")


def test_a_retransmission_keeps_nothing_twice(house: House) -> None:
    assert house.say(REPORT) == house.say(REPORT)
    assert house.rows("select count(*) from attachment") == [(1,)]
    assert house.rows("select count(*) from message_attachment") == [(1,)]


def test_a_document_that_is_gone_parks_the_delivery(house: House) -> None:
    house.say(REPORT)
    house.wait(house.db.run("test", lambda tx: tx.execute("delete from attachment")))
    peer = Peer()
    with pytest.raises(Refused, match="not in the store"):
        house.wait(Attaching(peer, house.db).send(by_destination(house)["archive"]))
    assert peer.sent == []


def test_a_mark_that_a_sender_wrote_gets_nothing_of_another_message(house: House) -> None:
    house.say(REPORT)
    [(digest,)] = house.rows("select digest from attachment")
    house.sent.clear()
    forged = REPORT.replace(PDF, "").replace("|C1|", "|C2|").replace("text ü", f"attachment-data:{digest}")
    house.say(forged)
    with pytest.raises(Refused):
        house.wait(Attaching(Peer(), house.db).send(by_destination(house)["ehr"]))


def test_a_store_that_cannot_be_reached_is_tried_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.say(REPORT)
    monkeypatch.setattr(house.db, "read", lambda *_: fail(StoreError("out of reach")))
    with pytest.raises(Retry, match="cannot be read"):
        house.wait(Attaching(Peer(), house.db).send(by_destination(house)["archive"]))


def test_closing_closes_the_peer(house: House) -> None:
    peer = Peer()
    house.wait(Attaching(peer, house.db).close())
    assert peer.closed


def test_what_is_referred_to_is_not_swept(house: House) -> None:
    house.say(REPORT)
    assert house.wait(house.db.run("test", attachments.sweep)) == 0
    house.wait(house.db.run("test", lambda tx: tx.execute("delete from message")))
    assert house.wait(house.db.run("test", attachments.sweep)) == 1
