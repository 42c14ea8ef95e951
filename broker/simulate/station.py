"""A modality in process: it asks, starts, stores and completes by calling the intake, with datasets that were encoded and read again."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from broker.config.models import Listener
from broker.connectors.base import Caller
from broker.connectors.dicom_peers import Peer, read_peers
from broker.connectors.dicom_terms import terms_of
from broker.dicom.commitment import Reference, request
from broker.dicom.dataset import decode, encode, put
from broker.dicom.files import file_meta
from broker.engine.stage import Stage
from broker.model import Spooled
from broker.pipeline.header import text_of
from broker.simulate.images import make_images, performed_created, performed_ended
from broker.simulate.modality import worklist_identifier

SUCCESS = 0x0000
HOST = "127.0.0.1"
_STEP = "ScheduledProcedureStepSequence"


class Refused(Exception):
    """The listener would not open an association for this caller."""


class Station:
    """One modality: the worklist entry it has chosen, and the images it has made."""

    def __init__(self, ae_title: str, stage: Stage, listener: Listener) -> None:
        self.ae_title, self._stage, self._settings = ae_title, stage, listener.settings
        self._caller = Caller(listener.name, ae_title, listener.settings["ae_title"], f"{HOST}:50000")
        self.entry = Dataset()
        self.images: list[Dataset] = []  # of the last series
        self._performed = ""
        self._made = 0

    def echo(self) -> int:
        """C-ECHO: return the status; raises Refused."""
        self._associate("")
        return SUCCESS

    def ask(self, keys: Mapping[str, str], charset: str = "") -> list[Dataset]:
        """C-FIND of the worklist: return the entries; raises Refused. Keys are dotted into sequences."""
        peer = self._associate("worklist")
        identifier = worklist_identifier({}, charset)
        for key, value in keys.items():
            put(identifier, key, value)
        terms = terms_of(self._settings["worklist"], peer.charset, peer.unencodable, peer.worklist)
        asked = encode(identifier, ExplicitVRLittleEndian)
        search = self._stage.dicom.find_worklist(self._caller, asked, ExplicitVRLittleEndian, terms)
        entries: list[Dataset] = []
        while page := self._stage.wait(search.page()):
            entries += [decode(entry, ExplicitVRLittleEndian) for entry in page]
        return entries

    def make(self, count: int, changes: Mapping[str, str]) -> None:
        """Make a series of images of the chosen entry, some of whose attributes may be changed."""
        self._made += 1
        entry = deepcopy(self.entry)
        if not text(entry, f"{_STEP}.Modality"):
            put(entry, f"{_STEP}.Modality", "CT")
        self.images = make_images(entry, count, station=self.ae_title, at=self._stage.time.text(), seed=f"{self.ae_title}/{self._made}")
        for image in self.images:
            for path, value in changes.items():
                put(image, path, value)

    def store(self) -> list[int]:
        """C-STORE the last series: return the statuses; raises Refused."""
        self._associate("store")
        return [self._store(image) for image in self.images]

    def start(self, changes: Mapping[str, str]) -> int:
        """MPPS N-CREATE for the chosen entry: return the status; raises Refused."""
        self._associate("mpps")
        self._made += 1
        self._performed = _uid("mpps", self.ae_title, self._made)
        attributes = performed_created(self.entry, station=self.ae_title, at=self._stage.time.text(), step_id=str(self._made))
        if not self.entry.get("StudyInstanceUID"):  # without an entry the modality makes the study up
            put(attributes, "ScheduledStepAttributesSequence.StudyInstanceUID", _uid("study", self.ae_title, self._made))
        for path, value in changes.items():
            put(attributes, path, value)
        return self._perform(True, attributes)

    def end(self, status: str, changes: Mapping[str, str]) -> int:
        """MPPS N-SET with the end of the procedure step: return the status; raises Refused."""
        self._associate("mpps")
        self._made += 1
        attributes = performed_ended(self.images, status=status, at=self._stage.time.text())
        if not self.images:  # a series nothing was kept of; what is sent once more would be a retransmission without it
            put(attributes, "PerformedSeriesSequence.SeriesInstanceUID", _uid("series", self.ae_title, self._made))
        for path, value in changes.items():
            put(attributes, path, value)
        return self._perform(False, attributes)

    def commit(self) -> tuple[int, str]:
        """Ask for storage commitment of the last series: return the status and the Transaction UID; raises Refused."""
        self._associate("commitment")
        self._made += 1
        transaction = _uid("transaction", self.ae_title, self._made)
        named = [Reference(str(image.SOPClassUID), str(image.SOPInstanceUID)) for image in self.images]
        asked = _through_the_wire(request(transaction, named))
        return self._stage.wait(self._stage.dicom.request_commitment(self._caller, asked)), transaction

    def _associate(self, service: str) -> Peer:
        """Return what the listener grants this caller, by the rules an association request meets."""
        peer = read_peers(self._settings["peers"]).find(self.ae_title, HOST)
        if peer is None:
            raise Refused(f"{self._caller.listener} rejects the association: {self.ae_title} is not among its peers")
        if service and service not in self._settings["services"]:
            raise Refused(f"{self._caller.listener} does not offer {service}")
        return peer

    def _perform(self, create: bool, attributes: Dataset) -> int:
        taking = self._stage.dicom.receive_performed(self._caller, create, self._performed, _through_the_wire(attributes))
        return self._stage.wait(taking).status

    def _store(self, image: Dataset) -> int:
        stage, sop_class, instance = self._stage, str(image.SOPClassUID), str(image.SOPInstanceUID)
        assert stage.spool is not None
        file = stage.spool.begin(file_meta(sop_class, instance, ExplicitVRLittleEndian))
        file.write([encode(image, ExplicitVRLittleEndian)])
        name, size, digest = stage.wait(file.finish())
        spooled = Spooled(name, sop_class, instance, ExplicitVRLittleEndian, size, digest)
        return stage.wait(stage.dicom.receive_instance(self._caller, spooled))


def _uid(*parts: object) -> str:
    return str(generate_uid(entropy_srcs=[str(part) for part in parts]))


def _through_the_wire(dataset: Dataset) -> Dataset:
    return decode(encode(dataset, ExplicitVRLittleEndian), ExplicitVRLittleEndian)


def text(dataset: Dataset, path: str) -> str:
    """Return the text at a keyword, dotted into the first items of sequences; "" when there is none."""
    return "\\".join(text_of(dataset, path))
