"""A modality on pynetdicom is asked how many instances a study has."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from broker.connectors.dicom_archive import Archive
from broker.engine.senders import Senders
from broker.obs.metrics import Metrics
from tests.connectors.dicom_shell import destination_settings, quiet
from tests.peers import free_ports


@pytest.fixture
def modality() -> Iterator[int]:
    """Give the port of a modality that has 12 instances of study 1.2."""

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.StudyInstanceUID == "1.2":
            entry = Dataset()
            entry.QueryRetrieveLevel, entry.StudyInstanceUID, entry.NumberOfStudyRelatedInstances = "STUDY", "1.2", "12"
            yield 0xFF00, entry

    (port,) = free_ports(1)
    ae = AE("CT1")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    yield port
    server.shutdown()


@pytest_twisted.ensureDeferred
async def test_it_says_how_many_it_has(modality: int) -> None:
    from twisted.internet import reactor

    log, _ = quiet()
    settings = destination_settings(port=modality, ae_title="CT1")
    config: Any = SimpleNamespace(senders={"CT1": "ct1", "CT2": "gone"}, destinations=(SimpleNamespace(name="ct1", settings=settings),))
    retrievals: Any = SimpleNamespace(
        archive=lambda destination, patience: Archive(destination.name, destination.settings, reactor, Metrics(), log, patience)
    )
    senders = Senders(retrievals, lambda: config, log)
    assert await senders.ask("CT1", "1.2") == 12
    assert await senders.ask("CT1", "1.3") is None
    assert await senders.ask("CT2", "1.2") is None
    assert await senders.ask("MR1", "1.2") is None
