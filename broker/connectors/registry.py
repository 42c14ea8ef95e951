"""Every kind of listener and destination there is, by the key it has in channels.yaml."""

from __future__ import annotations

from collections.abc import Mapping

from broker.connectors import dicom, mllp
from broker.spec import Spec

LISTENERS: Mapping[str, Spec] = {"mllp": mllp.LISTENER, "dicom": dicom.LISTENER}
DESTINATIONS: Mapping[str, Spec] = {"mllp": mllp.DESTINATION, "dicom": dicom.DESTINATION}
