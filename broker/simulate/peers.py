"""The whole neighbourhood of a broker: EHR, report author, modalities, archive and billing, on the ports of the shipped configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from broker.simulate.archive import Archive
from broker.simulate.billing import Billing
from broker.simulate.ehr import Author, Ehr
from broker.simulate.modality import Modality


@dataclass(frozen=True, slots=True)
class Places:
    """Where the broker listens, and where it expects its peers; the defaults are those of the shipped `channels.yaml`."""

    host: str = "127.0.0.1"
    hl7_port: int = 2575
    dicom_port: int = 11112
    dicom_aet: str = "BROKER"
    web_port: int = 8080
    archive_host: str = "127.0.0.1"
    archive_dicom_port: int = 4242
    archive_aet: str = "ARCHIVE"
    archive_hl7_port: int = 2576
    ehr_host: str = "127.0.0.1"
    ehr_hl7_port: int = 2577
    billing_host: str = "127.0.0.1"
    billing_hl7_port: int = 2578

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Places:
        """Return the places that the variables of the shipped configuration name; raises ValueError for a port that is no number."""
        read = environment.get
        usual = cls()
        host = read("BIND") or usual.host
        return cls(
            host="127.0.0.1" if host in ("0.0.0.0", "::") else host,
            hl7_port=int(read("HL7_PORT") or usual.hl7_port),
            dicom_port=int(read("DICOM_PORT") or usual.dicom_port),
            dicom_aet=read("DICOM_AET") or usual.dicom_aet,
            web_port=int(read("WEB_PORT") or usual.web_port),
            archive_host=read("ARCHIVE_HOST") or usual.archive_host,
            archive_dicom_port=int(read("ARCHIVE_DICOM_PORT") or usual.archive_dicom_port),
            archive_aet=read("ARCHIVE_AET") or usual.archive_aet,
            archive_hl7_port=int(read("ARCHIVE_HL7_PORT") or usual.archive_hl7_port),
            ehr_host=read("EHR_HOST") or usual.ehr_host,
            ehr_hl7_port=int(read("EHR_HL7_PORT") or usual.ehr_hl7_port),
            billing_host=read("BILLING_HOST") or usual.billing_host,
            billing_hl7_port=int(read("BILLING_HL7_PORT") or usual.billing_hl7_port),
        )


class Peers:
    """Every peer at once; modalities appear when they are asked for."""

    def __init__(self, reactor: Any, places: Places) -> None:
        self._reactor, self._places = reactor, places
        self.ehr = Ehr(reactor, places.host, places.hl7_port, inbox_port=places.ehr_hl7_port, bind=places.ehr_host)
        self.author = Author(reactor, places.host, places.hl7_port)
        self.archive = Archive(
            reactor,
            ae_title=places.archive_aet,
            dicom_port=places.archive_dicom_port,
            hl7_port=places.archive_hl7_port,
            host=places.archive_host,
        )
        self.billing = Billing(reactor, places.billing_hl7_port, host=places.billing_host)
        self.modalities: dict[str, Modality] = {}

    def modality(self, ae_title: str) -> Modality:
        """Return the modality with this AE title."""
        if ae_title not in self.modalities:
            places = self._places
            self.modalities[ae_title] = Modality(self._reactor, ae_title, places.host, places.dicom_port, called=places.dicom_aet)
        return self.modalities[ae_title]

    def start(self) -> Deferred[Any]:
        """Bind every port; fails when one of them is taken."""
        return gatherResults([self.ehr.start(), self.archive.start(), self.billing.start()], consumeErrors=True)

    def stop(self) -> Deferred[Any]:
        """Stop everything."""
        for modality in self.modalities.values():
            modality.stop()
        stopping = [self.ehr.stop(), self.author.stop(), self.archive.stop(), self.billing.stop()]
        return gatherResults(stopping, consumeErrors=True)
