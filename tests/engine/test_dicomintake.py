"""What a modality stores more than once: the same object is kept once, for as long as it is kept at all."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from broker.config.load import load
from broker.connectors import registry
from broker.connectors.base import Caller
from broker.dicom.dataset import encode
from broker.dicom.files import file_meta
from broker.engine.stage import Stage
from broker.model import Spooled
from broker.simulate.sinks import Sink
from broker.store import objects
from broker.store.objects import Terms
from tests.dicom.objects import ct

CHANNELS = """\
version: 1
site: {name: House, authority: HOUSE}
listeners:
  modalities:
    dicom: {port: 11112, services: [store]}
destinations:
  archive:
    dicom: {host: 127.0.0.1, port: 4242, ae_title: ARCHIVE}
channels:
  images: {from: modalities, route: images.yaml}
"""
ROUTE = "description: Every image as it came.\naccept: kind = C-STORE\nto:\n  - send: archive\n"
CT1 = Caller("modalities", "CT1", "BROKER", "127.0.0.1:50000")


class House:
    """A broker that passes on images, and an archive that keeps what comes."""

    def __init__(self, folder: Path) -> None:
        (folder / "channels.yaml").write_text(CHANNELS)
        (folder / "images.yaml").write_text(ROUTE)
        self.stage = Stage(load(folder / "channels.yaml", {}, registry), folder=folder)
        self.archive = Sink("archive", "dicom", self.stage)
        self.stage.connect([self.archive])

    def store(self, image: Dataset) -> None:
        spool = self.stage.spool
        assert spool is not None
        file = spool.begin(file_meta(image.SOPClassUID, image.SOPInstanceUID, ExplicitVRLittleEndian))
        file.write([encode(image, ExplicitVRLittleEndian)])
        name, size, digest = self.stage.wait(file.finish())
        spooled = Spooled(name, image.SOPClassUID, image.SOPInstanceUID, ExplicitVRLittleEndian, size, digest)
        assert self.stage.wait(self.stage.dicom.receive_instance(CT1, spooled)) == 0
        self.stage.settle()

    def kept(self) -> tuple[int, int]:
        """Return how many files the spool has, and how many messages the journal."""
        assert self.stage.spool is not None
        [row] = self.stage.wait(self.stage.db.read("test", lambda tx: tx.all("select count(*) from message")))
        return len(list(self.stage.spool.names())), int(row[0])


def test_an_object_that_comes_again_is_kept_and_passed_on_once(tmp_path: Path) -> None:
    house, image = House(tmp_path), ct()
    house.store(image)
    house.store(image)
    assert (house.kept(), len(house.archive.images)) == ((1, 1), 1)


def test_an_object_that_comes_again_when_its_file_has_gone_is_taken_and_passed_on(tmp_path: Path) -> None:
    """An archive that has lost images gets them from the modality: nobody else has them any more."""
    house, image = House(tmp_path), ct()
    house.store(image)
    terms = Terms(delivered=1e12, unfinished=1e12)
    _, gone = house.stage.wait(house.stage.db.run("test", objects.delete, terms, 0, 10, 1 << 40))
    assert house.stage.spool is not None
    for one in gone:
        house.stage.spool.remove(one.name)
    house.store(image)
    assert (len(gone), house.kept(), len(house.archive.images)) == (1, (1, 2), 2)
