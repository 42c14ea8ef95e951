"""The commands that talk to a running broker, as a person uses them one after the other."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
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


def test_what_was_answered_and_not_routed_is_routed_at_the_next_start(broker: BrokerProcess) -> None:
    """The store as a kill leaves it between the answer and the routing (`answer: received`)."""
    broker.command("send", str(SAMPLES / "adt_a04.hl7"))
    broker.stop()
    with closing(sqlite3.connect(broker.folder / "data/broker.db")) as db, db:
        db.execute("delete from delivery")
        db.execute("update message set state = 'received'")
    broker.start()
    (found,) = json.loads(broker.command("messages", "--json").stdout)
    assert (found["state"], found["code"]) == ("routed", "AA")
    assert [one["destination"] for one in json.loads(broker.command("messages", "deliveries", "1", "--json").stdout)] == ["archive_hl7"]


def test_the_answer_of_each_message_sent_is_shown_with_what_it_says(broker: BrokerProcess, tmp_path: Path) -> None:
    (tmp_path / "junk.hl7").write_text("not a message")
    known = (SAMPLES / "adt_a04.hl7").read_text()
    asking = tmp_path / "asking.hl7"
    asking.write_text(known.replace("|P|2.5.1", "|P|2.5.1|||AL|AL", 1))
    assert "AL|AL" in asking.read_text()
    printed = broker.command("send", "--new-id", str(asking), str(SAMPLES / "adt_a04.hl7")).stdout.splitlines()
    assert [line.split()[0] for line in printed] == ["CA", "AA", "AA"]
    done = broker.command("send", str(tmp_path / "junk.hl7"))
    assert done.returncode == 1
    assert "the message does not begin with MSH" in done.stdout
