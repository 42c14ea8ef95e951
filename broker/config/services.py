"""What a DICOM listener's settings say of its services, and is hardly meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.config.models import Listener
from broker.config.session import Session
from broker.pipeline.shape import did_you_mean
from broker.ris.context import Station

# The option that a service reads, by its name, with the services that do.
_READ_BY: Mapping[str, tuple[str, ...]] = {"worklist": ("worklist",), "commitment": ("commitment",), "retrieve": ("query", "retrieve")}


def check_services(session: Session, listeners: Iterable[Listener], stations: tuple[Station, ...]) -> None:
    """Warn of settings for a service that is not offered, and of stations of a worklist that are never booked."""
    for listener in listeners:
        if listener.kind == "dicom":
            _check_offered(session, listener)
            _check_stations(session, listener, [one.aet for one in stations])


def _check_offered(session: Session, listener: Listener) -> None:
    written = session.section("listeners").get(listener.name)
    settings = written.get(listener.kind) if isinstance(written, Mapping) else None
    for option, services in _READ_BY.items():
        if isinstance(settings, Mapping) and option in settings and not set(services) & set(listener.settings.get("services", ())):
            named = f"{services[0]} is not" if len(services) == 1 else f"neither {' nor '.join(services)} is"
            what, instead = f"{named} among the services of this listener", f"add {services[-1]} to services, or remove {option}"
            session.warn(("listeners", listener.name, listener.kind, option), what, instead)


def _check_stations(session: Session, listener: Listener, known: list[str]) -> None:
    for title, peer in listener.settings.get("peers", {}).items() if known else ():
        shown = peer.get("worklist", {}).get("stations", ()) if isinstance(peer, Mapping) else ()
        for station in (shown,) if isinstance(shown, str) else shown:
            if station not in known:
                place = ("listeners", listener.name, listener.kind, "peers", title, "worklist", "stations")
                session.warn(place, f"{station} is no modality that can be booked", did_you_mean(station, known))
