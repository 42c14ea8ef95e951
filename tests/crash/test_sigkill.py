"""The broker is killed again and again under load over both protocols: what was acknowledged is never lost."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from tests.peers import Archive, BrokerProcess, Sender, Sink, ct_image, eventually

KILLS = int(os.environ.get("CRASH_KILLS", "25"))
KILLS_ON_POSTGRES = (KILLS + 2) // 3
PATIENTS = 4

ORDER = (
    "MSH|^~\\&|EHR|GENHOSP|BROKER|RAD|20260302080000||ORM^O01|CRASH{n}|P|2.3.1\r"
    "PID|1||CRASH{patient}^^^GENHOSP^MR||DOE^JANE||19700101|F\r"
    "PV1|1|O|RAD\r"
    "ORC|NW|ORD{n}^EHR\r"
    "OBR|1|ORD{n}^EHR||CTCHEST^CT CHEST^LOCAL||||||||||||||ACC{n}\r"
)


class Load:
    """Senders that repeat what was not acknowledged, as real ones do, until they are told to stop."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.broker = broker
        self.stopping = threading.Event()
        self.acknowledged: dict[int, list[int]] = defaultdict(list)  # patient -> orders, in the order of their AA
        self.stored: list[str] = []  # SOP instances answered with success
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._orders, args=(p,), daemon=True) for p in range(PATIENTS)]
        self._threads.append(threading.Thread(target=self._images, daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _orders(self, patient: int) -> None:
        sender: Sender | None = None
        number = patient
        while not self.stopping.is_set():
            message = ORDER.format(n=number, patient=patient)
            answer = ""
            while not answer:
                try:
                    sender = sender or Sender(self.broker.ports["HL7_PORT"])
                    answer = sender.send(message)
                except OSError:
                    sender = None
                    time.sleep(0.02)
            if f"MSA|AA|CRASH{number}" in answer:
                self.acknowledged[patient].append(number)
            else:
                self.errors.append(answer)
            number += PATIENTS

    def _images(self) -> None:
        ae = AE(ae_title="CT1")
        ae.add_requested_context(CTImageStorage)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 5
        while not self.stopping.is_set():
            orders = self.acknowledged.get(0)
            if not orders:
                time.sleep(0.02)
                continue
            image = ct_image("CRASH0", "SOMEBODY^ELSE", f"ACC{orders[-1]}", generate_uid())
            while image.SOPInstanceUID not in self.stored:
                association = ae.associate("127.0.0.1", self.broker.ports["DICOM_PORT"], ae_title="BROKER")
                if not association.is_established:
                    time.sleep(0.02)
                    continue
                status = association.send_c_store(image)
                if "Status" in status:
                    if status.Status == 0x0000:
                        self.stored.append(str(image.SOPInstanceUID))
                    else:
                        self.errors.append(f"C-STORE 0x{status.Status:04X}")
                        break
                association.release()


@pytest.fixture(params=["sqlite", "postgres"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    store = "sqlite" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    made = BrokerProcess(tmp_path, extra={"SITE_TZ": "UTC", "BROKER_STORE": store})
    yield made
    if made.process and made.process.poll() is None:
        made.kill()


def test_nothing_acknowledged_is_lost_and_order_is_kept(broker: BrokerProcess) -> None:
    kills = KILLS if broker.extra["BROKER_STORE"] == "sqlite" else KILLS_ON_POSTGRES
    archive_hl7, ehr, billing = (Sink(broker.ports[name]) for name in ("ARCHIVE_HL7_PORT", "EHR_HL7_PORT", "BILLING_HL7_PORT"))
    archive = Archive(broker.ports["ARCHIVE_DICOM_PORT"])
    peers = (archive_hl7, ehr, billing, archive)
    for peer in peers:
        peer.start()
    moments = random.Random(20260302)
    load = Load(broker)
    try:
        broker.start()
        load.start()
        for _ in range(kills):
            time.sleep(moments.uniform(0.02, 0.6))
            broker.kill()
            broker.start()
        before = sum(map(len, load.acknowledged.values()))
        eventually(lambda: sum(map(len, load.acknowledged.values())) > before and load.stored, "it goes on after the last kill")
        load.stop()
        assert load.errors == []
        eventually(lambda: _waiting(broker) == 0, "every delivery is settled", 120)
        print(f"\n{kills} kills")
        _check(broker, load, archive_hl7, ehr, archive)
    finally:
        load.stopping.set()
        for peer in peers:
            peer.stop()


def _waiting(broker: BrokerProcess) -> int:
    return sum(destination["waiting"] for destination in broker.json("/api/status")["destinations"])


def _check(broker: BrokerProcess, load: Load, archive_hl7: Sink, ehr: Sink, archive: Archive) -> None:
    total = sum(map(len, load.acknowledged.values()))
    print(f"{total} orders and {len(load.stored)} images acknowledged")
    for sink, kind in ((archive_hl7, "OMI^O23"), (ehr, "SIU^S12")):
        arrived = _orders_by_patient(sink.of(kind))
        for patient, orders in load.acknowledged.items():
            assert [n for n in arrived[patient] if n in set(orders)] == orders, f"{kind} of patient {patient}"
    received = {str(image.SOPInstanceUID): image for image in archive.received}
    assert set(load.stored) <= set(received)
    assert {str(received[uid].PatientName) for uid in load.stored} == {"DOE^JANE"}
    state = broker.json("/api/status")
    # an order may have been taken whose answer the kill swallowed and that was not repeated before the load stopped
    assert total <= sum(state["exams"].values()) <= total + PATIENTS
    assert state["parked_total"] == 0
    assert state["unmatched_total"] == 0


def _orders_by_patient(messages: list[bytes]) -> dict[int, list[int]]:
    """Return the orders each patient's messages name, by their first arrival; a repetition after a kill is no new arrival."""
    seen: dict[int, dict[int, None]] = defaultdict(dict)
    for raw in messages:
        text = raw.decode()
        patient = int(text.split("CRASH", 1)[1].split("^")[0].split("|")[0])
        number = int(text.split("ORD", 1)[1].split("^")[0].split("|")[0])
        seen[patient].setdefault(number)
    return {patient: list(numbers) for patient, numbers in seen.items()}
