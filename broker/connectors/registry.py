"""Every kind of listener and destination there is, by the key it has in channels.yaml."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from broker.connectors import dicom, mllp
from broker.connectors.dicom_peers import check_ae_title, check_peers
from broker.spec import Spec

LISTENERS: Mapping[str, Spec] = {"mllp": mllp.LISTENER, "dicom": dicom.LISTENER}
DESTINATIONS: Mapping[str, Spec] = {"mllp": mllp.DESTINATION, "dicom": dicom.DESTINATION}


def _check_dicom(settings: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key in ("ae_title", "calling_ae_title"):
        if key in settings and (wrong := check_ae_title(settings[key])):
            yield key, wrong
    for wrong in check_peers(settings.get("peers", {})):
        yield "peers", wrong


# What a schema cannot say of a listener's or destination's settings, by kind: the key that is wrong, and what is wrong with it.
CHECKS: Mapping[str, Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]] = {"dicom": _check_dicom}
