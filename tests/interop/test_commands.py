"""The commands that talk to a running broker, as a person uses them one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import TOP, BrokerProcess, Sink, eventually

SAMPLES = TOP / "samples"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    made = BrokerProcess(tmp_path)
    made.start()
    yield made
    assert made.stop() == 0


def test_from_sending_to_tracing_and_sending_again(broker: BrokerProcess) -> None:
    sent = broker.command("send", "--json", str(SAMPLES / "adt_a04.hl7"), str(SAMPLES / "orm_ct.hl7"))
    assert [json.loads(line)["code"] for line in sent.stdout.splitlines()] == ["AA", "AA"]
    again = broker.command("send", str(SAMPLES / "orm_ct.hl7"), "--new-id")
    assert again.returncode == 1
    assert again.stdout.startswith("AE  ")

    found = json.loads(broker.command("messages", "--json").stdout)
    assert [(one["kind"], one["state"]) for one in found] == [("ORM^O01", "parked"), ("ORM^O01", "routed"), ("ADT^A04", "routed")]
    assert "order already known" in broker.command("messages", "--state", "parked").stdout
    order, accession = found[1]["id"], found[1]["accession"]
    assert "exam.scheduled" in broker.command("trace", accession).stdout

    archive = Sink(broker.ports["ARCHIVE_HL7_PORT"])
    archive.code = "AE"
    archive.start()
    try:
        eventually(lambda: len(archive.received) == 2, "the archive was asked to take both messages")
        archive.code = "AA"

        def states() -> dict[str, dict[str, object]]:
            rows = json.loads(broker.command("messages", "deliveries", str(order), "--json").stdout)
            return {one["destination"]: one for one in rows}

        eventually(lambda: states()["archive_hl7"]["state"] == "parked", "what the archive refused is parked")
        assert "archive_hl7" in broker.command("messages", "deliveries", str(order)).stdout

        shown = json.loads(broker.command("status", "--json").stdout)
        assert shown["exams"] == {"scheduled": 1}
        assert shown["parked_total"] == 3
        assert "not tried" in broker.command("status").stdout

        resent = broker.command("messages", "resend", str(states()["archive_hl7"]["id"]))
        assert "waits for archive_hl7" in resent.stdout
        eventually(lambda: len(archive.of("OMI^O23")) == 2, "the order is sent once more")
        eventually(lambda: states()["archive_hl7"]["state"] == "delivered", "and settled")
    finally:
        archive.stop()
    assert broker.command("messages", "resend", "999999").returncode == 1
    assert "is not parked" in broker.command("messages", "again", str(order)).stderr


def test_the_store_can_be_read_while_no_broker_runs(broker: BrokerProcess) -> None:
    broker.command("send", str(SAMPLES / "orm_ct.hl7"))
    broker.stop()
    (found,) = json.loads(broker.command("messages", "--json").stdout)
    assert "exam.scheduled" in broker.command("trace", found["accession"]).stdout
    assert "no broker answers" in broker.command("status").stderr
    broker.start()
