"""DICOM, in and out: what the registry and the app take."""

from broker.connectors.dicom_destination import DESTINATION, DicomDestination
from broker.connectors.dicom_listener import LISTENER, DicomListener
from broker.connectors.dicom_peers import check_ae_title, check_peers
from broker.connectors.dicom_requestor import echo

__all__ = ["DESTINATION", "LISTENER", "DicomDestination", "DicomListener", "check_ae_title", "check_peers", "echo"]
