"""A broker process takes other configurations while it works: by command, by signal, and back again."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import TOP, BrokerProcess, Sender, Sink, eventually

ADT = (TOP / "samples" / "adt_a04.hl7").read_text().replace("\n", "\r")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    for name in ("routes", "mappings"):
        shutil.copytree(TOP / name, tmp_path / "site" / name)
    shutil.copy(TOP / "channels.yaml", tmp_path / "site")
    made = BrokerProcess(tmp_path, config=tmp_path / "site" / "channels.yaml")
    made.start()
    yield made
    assert made.stop() == 0


def spoil(broker: BrokerProcess, name: str, old: str, new: str) -> None:
    """Change a file of the configuration."""
    path = broker.config.parent / name
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new))


def post(broker: BrokerProcess, path: str, **query: str) -> Any:
    """Let the broker do something, and return the JSON it answers with."""
    url = f"http://127.0.0.1:{broker.ports['WEB_PORT']}{path}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(url, method="POST", headers={"X-Broker-Action": "yes"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


class Load:
    """A sender that registers one patient after the other over one connection, until it is told to stop."""

    def __init__(self, port: int, name: str) -> None:
        self.ids: list[str] = []
        self.answers: list[str] = []
        self._port, self._name, self._over = port, name, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sender = Sender(self._port)  # a connection that is lost ends the thread, and answers are missing
        original = ADT.split("|")[9]
        while not self._over.is_set():
            self.ids.append(f"{self._name}{len(self.ids)}")
            self.answers.append(sender.send(ADT.replace(original, self.ids[-1], 1)))
        sender.close()

    def stop(self) -> None:
        """Let the last answer come."""
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_no_connection_is_lost_and_no_message_unanswered_while_ten_configurations_follow_each_other(broker: BrokerProcess) -> None:
    archive = Sink(broker.ports["ARCHIVE_HL7_PORT"])
    archive.start()
    loads = [Load(broker.ports["HL7_PORT"], name) for name in "ABCD"]
    eventually(lambda: all(len(load.answers) > 5 for load in loads), "the load has begun")
    port = "port: ${ARCHIVE_HL7_PORT:-2576}"
    for number in range(10):
        before = [len(load.answers) for load in loads]
        spoil(broker, "routes/registration.yaml", "description: ", f"description: {number}, ")
        old, new = (port, f"{port}\n      answer_timeout: 40s") if number % 2 == 0 else (f"{port}\n      answer_timeout: 40s", port)
        spoil(broker, "channels.yaml", old, new)
        assert post(broker, "/api/configuration/apply", by="test")["version"]["number"] == number + 2
        eventually(
            lambda before=before: all(len(load.answers) > count for load, count in zip(loads, before, strict=True)), "the load goes on"
        )
    for load in loads:
        load.stop()
    sent = [id for load in loads for id in load.ids]
    assert [len(load.answers) for load in loads] == [len(load.ids) for load in loads]
    assert all("MSA|AA|" in answer for load in loads for answer in load.answers)
    eventually(lambda: len(archive.received) >= len(sent), "everything was delivered")
    archive.stop()
    received = [raw.split(b"|")[9].decode() for raw in archive.received]
    assert sorted(received) == sorted(sent)  # each of them once
    for load in loads:
        assert [id for id in received if id[0] == load.ids[0][0]] == load.ids


def test_a_failed_change_and_a_signal_and_the_way_back(broker: BrokerProcess) -> None:
    sender = Sender(broker.ports["HL7_PORT"])
    assert "Nothing would change" in broker.command("plan").stdout
    spoil(broker, "channels.yaml", "port: ${DICOM_PORT:-11112}", f"port: {broker.ports['EHR_HL7_PORT']}")
    taken = Sink(broker.ports["EHR_HL7_PORT"])
    taken.start()
    spoil(broker, "routes/registration.yaml", "accept: ", "accept: PID-3.1 = NOBODY and ")
    failed = broker.command("apply", "--yes")
    assert (failed.returncode, "what ran goes on unchanged" in failed.stderr) == (1, True)
    assert "MSA|AA|" in sender.send(ADT)
    assert json.loads(broker.command("versions", "--json").stdout)[-1]["number"] == 1
    taken.stop()

    spoil(broker, "channels.yaml", f"port: {broker.ports['EHR_HL7_PORT']}", "port: ${DICOM_PORT:-11112}")
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(broker.json("/api/configuration/versions")["versions"]) == 2, "the signal was heard")
    assert broker.json("/api/configuration")["by"] == "SIGHUP"
    assert "MSA|AR|" in sender.send(ADT.replace(ADT.split("|")[9], "SECOND", 1))

    back = broker.command("rollback", "--yes", "--comment", "3 a.m.")
    assert back.returncode == 0, back.stderr
    assert "Version 3 runs, which is version 1 again" in back.stdout
    assert "On disk are other files: routes/registration.yaml" in back.stdout
    assert "MSA|AA|" in sender.send(ADT.replace(ADT.split("|")[9], "THIRD", 1))
    assert b"broker_configuration_drift 1.0" in broker.get("/metrics")
    assert "other on disk: routes/registration.yaml" in broker.command("status").stdout
    sender.close()

    assert broker.stop() == 0
    broker.start()
    assert broker.json("/api/configuration")["version"] == 3
    assert broker.command("plan").returncode == 2
    assert broker.command("apply", "--yes").returncode == 0
    assert broker.json("/api/configuration")["differing"] == []


def test_a_destination_with_deliveries_is_not_taken_away(broker: BrokerProcess) -> None:
    assert broker.command("send", str(TOP / "samples" / "adt_a04.hl7")).returncode == 0
    text = broker.config.read_text()
    archive = text[text.index("  archive_hl7:") : text.index("  ehr:")]
    broker.config.write_text(text.replace(archive, ""))
    for path in (broker.config.parent / "routes").glob("*.yaml"):
        path.write_text(path.read_text().replace("send: archive_hl7", "send: ehr").replace("[ehr, archive_hl7]", "[ehr]"))
    planned = broker.command("plan")
    assert planned.returncode == 1, planned.stdout + planned.stderr
    assert "cannot be applied: " in planned.stdout
    assert "destinations.archive_hl7: still holds 1 waiting and 0 parked deliveries" in planned.stdout
    refused = broker.command("apply", "--yes")
    assert refused.returncode == 2
    assert "nothing was started or changed" in refused.stderr
    with pytest.raises(urllib.error.HTTPError, match="422"):
        post(broker, "/api/configuration/apply", by="test")
    archive_sink = Sink(broker.ports["ARCHIVE_HL7_PORT"])
    archive_sink.start()
    eventually(lambda: len(archive_sink.received) == 1, "what waited is delivered")
    eventually(lambda: broker.command("apply", "--yes").returncode == 0, "and then it may go")
    archive_sink.stop()
