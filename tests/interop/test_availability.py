"""An Instance Availability Notification of a route reaches a receiver on pynetdicom, through the destination."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import InstanceAvailabilityNotification  # type: ignore[attr-defined]

from broker.connectors.dicom import DicomDestination
from broker.dicom.availability import SOP_CLASS, Located, Notification, make
from broker.dicom.dataset import encode
from broker.dicom.dimserequest import DimseRequest, encode_request
from broker.model import Delivery
from broker.obs.metrics import Metrics
from tests.connectors.dicom_shell import destination_settings, quiet, spool
from tests.peers import free_ports


@pytest.fixture
def receiver() -> Iterator[tuple[int, list[tuple[str, Dataset]]]]:
    """Give the port of a receiver of notifications that decodes implicit VR only, and what it got."""
    got: list[tuple[str, Dataset]] = []

    def create(event: evt.Event) -> tuple[int, None]:
        got.append((str(event.request.AffectedSOPInstanceUID), event.attribute_list))
        return 0x0000, None

    (port,) = free_ports(1)
    ae = AE("VNA")
    ae.add_supported_context(InstanceAvailabilityNotification, ImplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_CREATE, create)])
    yield port, got
    server.shutdown()


@pytest_twisted.ensureDeferred
async def test_a_notification_is_delivered(receiver: Any, tmp_path: Any) -> None:
    from twisted.internet import reactor

    port, got = receiver
    log, _ = quiet()
    said = Notification("1.2", (Located("1.2.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.1.1", "ONLINE", "ARCHIVE"),), ("1.9",))
    payload = encode_request(DimseRequest("N-CREATE", SOP_CLASS, "2.25.7", encode(make(said), ExplicitVRLittleEndian)))
    destination = DicomDestination("vna", destination_settings(port=port, ae_title="VNA"), reactor, spool(tmp_path), Metrics(), log)
    delivery = Delivery(1, 1, "vna", "IAN 1.2", "complete", "N-CREATE", payload, "2.25.7", "A1", 0)
    try:
        assert await destination.send(delivery) == "0x0000"
    finally:
        await destination.close()
    ((uid, dataset),) = got
    assert (uid, dataset.StudyInstanceUID) == ("2.25.7", "1.2")
    item = dataset.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert (item.InstanceAvailability, item.RetrieveAETitle) == ("ONLINE", "ARCHIVE")
