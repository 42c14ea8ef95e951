"""Everything that can be wrong with a configuration, found in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from broker.config.callbacks import check_commitment, read_callbacks
from broker.config.casefiles import check_cases
from broker.config.channels import read_channels
from broker.config.confidential import with_rules
from broker.config.connections import check_ports, read_destinations, read_listeners
from broker.config.files import read_document
from broker.config.models import Config, Site, SpoolPolicy, Web
from broker.config.options import COMPLETION, SITE, SPOOL, VERSION, WEB, Registry
from broker.config.pointers import check_pointers
from broker.config.prefetch import check_archives, read_prefetch
from broker.config.senders import check_senders
from broker.config.services import check_services
from broker.config.session import Checked, Session, Watch
from broker.config.settings import filled, read_top
from broker.config.sources import CHANNELS
from broker.config.standards import check_standards
from broker.config.topology import check_topology
from broker.config.unlikely import check_unlikely
from broker.config.vocabulary import check_vocabulary, read_stations, read_tables
from broker.ris.context import Completion
from broker.spec import read

__all__ = ["Checked", "Watch", "check_config"]


def check_config(
    path: str | Path, environment: Mapping[str, str], registry: Registry, watch: Watch | None = None, *, standards: bool = True
) -> Checked:
    """Read `channels.yaml` and every file it names; raises nothing.

    Without `standards` only what is needed to run it is checked, not whether HL7 and DICOM know what it names.
    """
    path = Path(path)
    document = read_document(path, str(path), environment)
    session = Session(path.parent.absolute(), path.parent, environment, registry, document, watch)
    session.add(*document.problems)
    if not isinstance(document.value, Mapping):
        if not document.problems:
            session.problem((), "a mapping is needed here", "begin with version: 1")
        return Checked(None, session.sorted())
    session.keep_document(CHANNELS, document)
    config = _config(session, path, document.value, standards=standards)
    return Checked(config, session.sorted())


def _config(session: Session, path: Path, value: Mapping[str, object], *, standards: bool) -> Config | None:
    """Return the configuration, None when it has problems."""
    top = read_top(session, value)
    tables = read_tables(session, top["tables"], asked="tables" in value)
    stations = read_stations(session, tables, top["stations"], asked="stations" in value)
    listeners = read_listeners(session)
    destinations = with_rules(session, tables, read_destinations(session))
    site = Site(**read(SITE, filled(SITE, top["site"])))
    web = Web(**read(WEB, filled(WEB, top["web"])))
    channels = read_channels(session, tables, listeners, destinations, site)
    prefetch = read_prefetch(session, tables, destinations)
    check_archives(session, listeners, destinations)
    check_vocabulary(session, tables)
    if standards:
        check_standards(session, _texts(top["extensions"]))
        check_pointers(session, path, channels)
        check_cases(session, channels)
    check_ports(session, listeners, web)
    check_topology(session, tables, listeners, destinations, channels)
    check_commitment(session, listeners, destinations)
    complete = read(COMPLETION, top["complete"])
    check_senders(session, complete["ask"], destinations)
    check_unlikely(session, destinations)
    check_services(session, listeners, stations)
    findings = session.sorted()
    if any(finding.severity == "problem" for finding in findings):
        return None
    return Config(
        file=path,
        version=VERSION,
        site=site,
        data=Path(top["data"]),
        store=top["store"],
        node=top["node"],
        web=web,
        tables=tables,
        stations=stations,
        listeners=listeners,
        destinations=destinations,
        channels=channels,
        spool=SpoolPolicy(**read(SPOOL, top["spool"])),
        callbacks=read_callbacks(listeners),
        prefetch=prefetch,
        completion=Completion(**{name: one for name, one in complete.items() if name != "ask"}),
        senders=complete["ask"],
        reload=top["reload"],
        sources=tuple(session.sources.values()),
        warnings=tuple(finding.problem for finding in findings),
    )


def _texts(value: str | Sequence[object]) -> list[str]:
    return [value] if isinstance(value, str) else [one for one in value if isinstance(one, str)]
