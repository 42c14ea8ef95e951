"""The broker is killed again and again while modalities store images: what was answered with success is kept, and reaches the archive."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from broker.store.database import Transaction, look
from tests.peers import BrokerProcess, ct_image, eventually

KILLS = int(os.environ.get("CRASH_KILLS", "25"))
KILLS_ON_POSTGRES = (KILLS + 2) // 3
MODALITIES = 4
SIZES = (512, 40_000, 600_000)  # bytes of pixel data: objects that wait in memory until they are written, and one that does not

CHANNELS = """\
version: 1
site: {name: Crash, authority: CRASH}
data: ${BROKER_DATA}
store: ${BROKER_STORE}
web:
  port: ${WEB_PORT}
listeners:
  modalities:
    dicom:
      port: ${DICOM_PORT}
      services: [store]
destinations:
  archive:
    dicom:
      host: 127.0.0.1
      port: ${ARCHIVE_DICOM_PORT}
      ae_title: ARCHIVE
      retry: {first: 200ms, most: 1s}
channels:
  images: {from: modalities, route: routes/images.yaml}
"""
ROUTE = "description: Every image as it came.\naccept: kind = C-STORE\nlane: SOPInstanceUID\nto:\n  - send: archive\n"


class Modalities:
    """Each stores one image after the other, and repeats what it got no answer to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.stopping = threading.Event()
        self.stored: dict[str, str] = {}  # SOP instance answered with success -> digest of its pixels
        self.errors: list[int] = []
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(MODALITIES)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _work(self, number: int) -> None:
        ae = AE(ae_title=f"CT{number}")
        ae.add_requested_context(CTImageStorage)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 5
        study, count = generate_uid(), 0
        while not self.stopping.is_set():
            count += 1
            image = ct_image(f"P{number}", "DOE^JANE", f"ACC{number}", study, count)
            image.PixelData = os.urandom(SIZES[count % len(SIZES)])
            uid = str(image.SOPInstanceUID)
            while uid not in self.stored and not self.stopping.is_set():
                association = ae.associate("127.0.0.1", self.port, ae_title="BROKER")
                if not association.is_established:
                    time.sleep(0.02)
                    continue
                status = association.send_c_store(image)
                if status.get("Status", None) == 0x0000:
                    self.stored[uid] = _digest(image.PixelData)
                elif "Status" in status:
                    self.errors.append(status.Status)
                association.release()


class Archive:
    """A C-STORE SCP that remembers the digest of the pixels of every instance, each time that it comes."""

    def __init__(self, port: int) -> None:
        self.received: dict[str, list[str]] = defaultdict(list)
        ae = AE(ae_title="ARCHIVE")
        ae.add_supported_context(CTImageStorage)
        self._server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])

    def _store(self, event: evt.Event) -> int:
        image = event.dataset
        self.received[str(image.SOPInstanceUID)].append(_digest(image.PixelData))
        return 0x0000

    def stop(self) -> None:
        for association in self._server.active_associations:
            association.abort()
        self._server.shutdown()


def _digest(pixels: bytes) -> str:
    return hashlib.sha256(pixels).hexdigest()


@pytest.fixture(params=["sqlite", "postgres"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    store = "sqlite" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "images.yaml").write_text(ROUTE)
    (tmp_path / "channels.yaml").write_text(CHANNELS)
    made = BrokerProcess(tmp_path, config=tmp_path / "channels.yaml", extra={"BROKER_STORE": store})
    yield made
    if made.process and made.process.poll() is None:
        made.kill()


def test_every_acknowledged_image_is_kept_and_delivered(broker: BrokerProcess) -> None:
    kills = KILLS if broker.extra["BROKER_STORE"] == "sqlite" else KILLS_ON_POSTGRES
    archive = Archive(broker.ports["ARCHIVE_DICOM_PORT"])
    moments, modalities = random.Random(20260303), Modalities(broker.ports["DICOM_PORT"])
    try:
        broker.start()
        modalities.start()
        for _ in range(kills):
            time.sleep(moments.uniform(0.02, 0.8))
            acknowledged = dict(modalities.stored)
            broker.kill()
            _is_kept(broker, acknowledged)
            broker.start()
        before = len(modalities.stored)
        eventually(lambda: len(modalities.stored) > before, "it goes on after the last kill")
        modalities.stop()
        assert modalities.errors == []
        eventually(lambda: _waiting(broker) == 0, "every delivery is settled", 120)
        repeats = sum(map(len, archive.received.values())) - len(archive.received)
        print(f"\n{kills} kills, {len(modalities.stored)} images acknowledged, {repeats} delivered once more")
        for uid, digest in modalities.stored.items():
            assert set(archive.received.get(uid, ())) == {digest}, f"{uid} at the archive"
        assert broker.json("/api/status")["parked_total"] == 0
        broker.kill()
        assert _spool(broker) == set(_rows(broker)), "nothing lies in the spool that the store does not name"
    finally:
        modalities.stopping.set()
        archive.stop()


def _waiting(broker: BrokerProcess) -> int:
    return sum(destination["waiting"] for destination in broker.json("/api/status")["destinations"])


def _is_kept(broker: BrokerProcess, acknowledged: dict[str, str]) -> None:
    """Check that the store names a whole file of each of these, while no broker runs."""
    kept = {uid: (name, size) for name, (uid, size) in _rows(broker).items()}
    for uid in acknowledged:
        name, size = kept[uid]
        assert (broker.folder / "data" / "spool" / name).stat().st_size == size


def _rows(broker: BrokerProcess) -> dict[str, tuple[str, int]]:
    store = broker.extra["BROKER_STORE"]
    return look(broker.folder / "data" / "broker.db" if store == "sqlite" else store, _objects)


def _objects(tx: Transaction) -> dict[str, tuple[str, int]]:
    return {row[0]: (row[1], row[2]) for row in tx.all("select name, uid, size from object where state = 'kept'")}


def _spool(broker: BrokerProcess) -> set[str]:
    folder = broker.folder / "data" / "spool"
    return {str(file.relative_to(folder)) for file in folder.rglob("*.dcm")}
