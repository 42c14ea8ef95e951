"""Archives that are asked: for `query` and `retrieve` of a listener, and by the section `prefetch:` of `channels.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broker.config.models import Destination, Listener, Prefetch, PrefetchRule
from broker.config.options import PREFETCH, PREFETCH_RULE
from broker.config.session import Session
from broker.connectors.hours import check_hours
from broker.errors import Problem
from broker.pipeline.shape import Mistakes, Place, check, did_you_mean
from broker.pipeline.tables import Table
from broker.ris.priors import ANY, Kind, Relevance, read_kinds
from broker.spec import mapping_schema, read


def read_prefetch(session: Session, tables: Mapping[str, Table], destinations: tuple[Destination, ...]) -> Prefetch:
    """Return what is fetched ahead of exams, nothing when the section is missing or not in order; every mistake is noted."""
    section = session.section("prefetch")
    if not section or not check(mapping_schema(PREFETCH), section, Mistakes()):
        return Prefetch()  # the mistakes were collected with the whole file
    settings = read(PREFETCH, section)
    for wrong in check_hours(settings["hours"]):
        session.problem(("prefetch", "hours"), wrong)
    if settings["at_once"] < 1:
        session.problem(("prefetch", "at_once"), "nothing would ever be moved", "write a whole number from 1 on")
    kinds = {one.name: one.kind for one in destinations}
    rules = tuple(
        rule for name, value in settings["rules"].items() if (rule := _rule(session, name, value, kinds, settings["from"], tables))
    )
    _check_receivers(session, ("prefetch", "from"), settings["from"], kinds)
    for rule in rules:
        _check_known(session, ("prefetch", "rules", rule.name, "to"), (rule.target,), destinations)
    return Prefetch(
        rules=rules,
        ahead=settings["ahead"],
        late=settings["late"],
        at_once=settings["at_once"],
        patience=settings["patience"],
        hours=settings["hours"],
    )


def _rule(
    session: Session, name: str, value: Any, kinds: Mapping[str, str], sources: tuple[str, ...], tables: Mapping[str, Table]
) -> PrefetchRule | None:
    place: Place = ("prefetch", "rules", name)
    if not check(mapping_schema(PREFETCH_RULE), value, Mistakes()):
        return None
    rule = read(PREFETCH_RULE, value)
    own = rule["from"] or sources
    if not own:
        session.problem(place, "no archive is searched", "name one or more destinations in from:")
    _check_receivers(session, (*place, "from"), rule["from"], kinds)
    _check_receivers(session, (*place, "to"), (rule["to"],), kinds)
    if rule["count"] < 1:
        session.problem((*place, "count"), "no prior would ever be moved", "write a whole number from 1 on")
    relevance = Relevance(
        _kinds(session, (*place, "relevance"), rule["relevance"], tables), _parts(session, place, rule["body_parts"], tables)
    )
    return PrefetchRule(
        name=name,
        events=tuple(rule["on"]),
        modalities=rule["modality"],
        parts=rule["body_part"],
        procedures=rule["procedure"],
        sources=own,
        target=rule["to"],
        count=rule["count"],
        age=rule["age"],
        relevance=relevance,
    )


def check_archives(session: Session, listeners: tuple[Listener, ...], destinations: tuple[Destination, ...]) -> None:
    """Note archives of a listener that there are not; whoever may retrieve may have it sent to any DICOM destination."""
    kinds = {one.name: one.kind for one in destinations}
    for listener in listeners:
        retrieve = listener.settings.get("retrieve")
        if retrieve is not None:
            for key in ("from", "to"):
                _check_receivers(session, ("listeners", listener.name, listener.kind, "retrieve", key), retrieve[key], kinds)
            _check_known(session, ("listeners", listener.name, listener.kind, "retrieve", "to"), retrieve["to"], destinations)
            if "retrieve" in listener.settings["services"] and not retrieve["to"]:
                session.used_destinations.update(name for name, kind in kinds.items() if kind == "dicom")


def _check_receivers(session: Session, place: Place, names: tuple[str, ...], kinds: Mapping[str, str]) -> None:
    """Note names that are no DICOM destination."""
    known = [name for name, kind in kinds.items() if kind == "dicom"]
    session.used_destinations.update(names)
    for name in names:
        if name not in kinds and name not in session.section("destinations"):
            session.problem(place, f"there is no destination {name}", did_you_mean(name, known), "topology")
        elif kinds.get(name, "dicom") != "dicom":
            session.problem(place, f"{name} takes {kinds[name]}, not DICOM", did_you_mean(name, known), "topology")


def _check_known(session: Session, place: Place, names: tuple[str, ...], destinations: tuple[Destination, ...]) -> None:
    """Note destinations that may not know the patient: what an archive has goes there as it is."""
    for one in destinations:
        if one.name in names and one.settings.get("deidentify"):
            session.problem(place, f"{one.name} takes de-identified objects, which a retrieval cannot make", "send them there by a route")


def _table(session: Session, place: Place, name: str, tables: Mapping[str, Table]) -> Table | None:
    table = tables.get(name)
    if table is None:
        session.problem(place, f"there is no table {name}", did_you_mean(name, tables))
    else:
        session.used_tables.add(name)
    return table


def _kinds(session: Session, place: Place, name: str, tables: Mapping[str, Table]) -> dict[str, tuple[Kind, ...]]:
    table = _table(session, place, name, tables)
    return dict(_rows(session, table)) if table else {}


def _rows(session: Session, table: Table) -> Iterator[tuple[str, tuple[Kind, ...]]]:
    for key, row in table.rows.items():
        try:
            if key != ANY:
                read_kinds(key)
            yield key, read_kinds(row[table.value_column])
        except ValueError as error:
            file = session.table_file(table.name)
            session.add(Problem(file, table.lines[key], "", str(error), "write a modality and a body part, such as CT CHEST or * KNEE"))


def _parts(session: Session, place: Place, name: str, tables: Mapping[str, Table]) -> dict[str, str]:
    table = _table(session, (*place, "body_parts"), name, tables)
    return {key: row[table.value_column] for key, row in table.rows.items()} if table else {}
