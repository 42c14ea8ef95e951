"""Every kind of listener and destination there is, by the key it has in channels.yaml."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from broker.connectors import dicom, dicom_identity, file, mllp
from broker.connectors.dicom_peers import check_ae_title
from broker.connectors.probe import Seen, probe_dicom, probe_mllp
from broker.model import Protocol
from broker.obs.log import Log
from broker.security import tls
from broker.spec import Spec

LISTENERS: Mapping[str, Spec] = {"mllp": mllp.LISTENER, "dicom": dicom.LISTENER, "file": file.LISTENER}
DESTINATIONS: Mapping[str, Spec] = {"mllp": mllp.DESTINATION, "dicom": dicom.DESTINATION, "file": file.DESTINATION}


# What each kind carries.
PROTOCOLS: Mapping[str, Protocol] = {"mllp": "hl7", "file": "hl7", "dicom": "dicom"}

Check = Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]


def _warn_tls(settings: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for option, what in tls.concerns(settings["tls"]) if settings.get("tls") else ():
        yield "tls", f"{option}: {what}"


def _warn_dicom(settings: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield from _warn_tls(settings)
    yield from dicom_identity.concerns(settings)
    for title, peer in settings.get("peers", {}).items():
        for option, what in tls.concerns(tls.DESTINATION.read(peer["tls"])) if isinstance(peer, Mapping) and peer.get("tls") else ():
            yield "peers", f"{title}.tls: {option}: {what}"


def _check_dicom_destination(settings: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key in ("ae_title", "calling_ae_title"):
        if wrong := check_ae_title(settings[key]):
            yield key, wrong
    if settings["identity"] and (wrong := dicom_identity.check_user(settings["identity"])):
        yield "identity", wrong
    for option, what in tls.problems(settings["tls"], accepts=False) if settings["tls"] else ():
        yield "tls", f"{option}: {what}"
    yield from dicom.check_sending(settings)


# What a schema cannot say of settings, by section and kind: the key that is wrong, and what is wrong with it.
CHECKS: Mapping[tuple[str, str], Check] = {
    ("listeners", "mllp"): mllp.check_listener,
    ("listeners", "dicom"): dicom.check_listener,
    ("listeners", "file"): file.check_listener,
    ("destinations", "mllp"): mllp.check_destination,
    ("destinations", "dicom"): _check_dicom_destination,
    ("destinations", "file"): file.check_destination,
}
# What may be wrong with them, and does not keep the broker from starting; by kind.
WARNINGS: Mapping[str, Check] = {"mllp": _warn_tls, "dicom": _warn_dicom}
# How to find out whether the peer of a listener or destination is there, by kind.
PROBES: Mapping[str, Callable[[Any, Mapping[str, Any], float, Log], Deferred[Seen]]] = {"mllp": probe_mllp, "dicom": probe_dicom}


def where(settings: Mapping[str, Any]) -> str:
    """Return where a listener or destination is, as a person reads it: an address, a folder, or whose connections it uses."""
    for key, words in (("over", "over {}"), ("connect", "to {}"), ("folder", "{}")):
        if settings.get(key):
            return words.format(settings[key])
    return f"{settings.get('host') or settings['bind']}:{settings['port']}"
