"""DICOM, in and out: what the registry and the app take."""

from broker.connectors.dicom_destination import DESTINATION, DicomDestination, check_sending
from broker.connectors.dicom_listener import LISTENER, DicomListener, check_listener
from broker.connectors.dicom_peers import check_ae_title, check_peers
from broker.connectors.dicom_requestor import echo

__all__ = [
    "DESTINATION",
    "LISTENER",
    "DicomDestination",
    "DicomListener",
    "check_ae_title",
    "check_listener",
    "check_peers",
    "check_sending",
    "echo",
]
