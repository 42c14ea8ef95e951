"""Instances that are still in the spool, as they go to the archives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.dicom.query import IMAGE, PATIENT, SERIES, STUDY
from broker.dicom.storerequest import decode_request
from broker.model import StoreRequest
from broker.store.engine import Transaction

ACCESSION = "ACCESSION"  # beside the levels, what may narrow a search
_MOST_NAMED = 500  # values of one statement

# `spool` stands in each part of an `or`: only there an index on what is in the spool is found
_NARROWED = {
    PATIENT: (
        "(i.spool <> '' and i.sent_patient_id in ({0}) or i.exam_id in"
        " (select e.id from exams e join patient_identifiers p on p.patient_id = e.patient_id where p.value in ({0})))",
        2,
    ),
    STUDY: ("(i.study_uid in ({0}) or i.exam_id in (select e.id from exams e where e.study_uid in ({0})))", 2),
    SERIES: ("i.series_uid in ({0})", 1),
    IMAGE: ("i.uid in ({0})", 1),
    ACCESSION: ("(i.spool <> '' and i.accession in ({0}) or i.exam_id in (select e.id from exams e where e.accession in ({0})))", 2),
}
_KEPT = "exists (select 1 from object o where o.message_id = i.message_id and o.state = 'kept')"
_ALL_KEPT = "i.message_id in (select o.message_id from object o where o.state = 'kept')"


@dataclass(frozen=True, slots=True)
class Kept:
    """One instance, or one that stands for its series."""

    request: StoreRequest  # the object and what is changed in it on its way to the archives
    accession: str
    delivered: bool  # to one of these archives
    count: int = 1  # instances it stands for


def kept(tx: Transaction, archives: Sequence[str], keys: Mapping[str, Sequence[str]], limit: int, *, by_series: bool = False) -> list[Kept]:
    """Return the instances with one of the values of each key, the latest first, at most `limit`; `by_series` one of each series.

    What goes to one of the archives is there in the last version that does, what goes to none is left out. Without any archives, what
    belongs to no exam and goes nowhere is.
    """
    where, params = _where(keys)
    if by_series:
        sql = f"select max(i.id), count(*) from instances i where {where} group by i.study_uid, i.series_uid order by 1 desc limit ?"
    else:
        sql = f"select i.id, 1 from instances i where {where} order by i.id desc limit ?"
    chosen = {int(row[0]): int(row[1]) for row in tx.all(sql, [*params, limit])}
    found = []
    ids = list(chosen)
    for at in range(0, len(ids), _MOST_NAMED):
        found += _rows(tx, archives, ids[at : at + _MOST_NAMED], chosen)
    return found


def _where(keys: Mapping[str, Sequence[str]]) -> tuple[str, list[object]]:
    terms, params = [_KEPT if keys else _ALL_KEPT], list[object]()
    for key, values in keys.items():
        term, times = _NARROWED[key]
        terms.append(term.format(", ".join("?" * len(values))))
        params += [*values] * times
    return " and ".join(terms), params


def _rows(tx: Transaction, archives: Sequence[str], ids: Sequence[int], counts: Mapping[int, int]) -> list[Kept]:
    rows = tx.all(
        "select i.id, i.exam_id, i.accession, e.accession, m.id, m.raw"
        " from instances i join message m on m.id = i.message_id left join exams e on e.id = i.exam_id"
        f" where i.id in ({', '.join('?' * len(ids))}) order by i.id desc",
        [*ids],
    )
    sent = _sent(tx, archives, [row[4] for row in rows])
    found = []
    for id, exam_id, named, accession, message_id, raw in rows:
        payload, delivered = sent.get(message_id, (None, False))
        if payload is None and (archives or exam_id is None):
            continue
        found.append(Kept(decode_request(payload or bytes(raw)), accession or named, delivered, counts[int(id)]))
    return found


def _sent(tx: Transaction, archives: Sequence[str], messages: Sequence[int]) -> dict[int, tuple[bytes, bool]]:
    """Return, for each message, the last version of its object that goes to an archive, and whether one of them has it."""
    among = f" and destination in ({', '.join('?' * len(archives))})" if archives else ""
    rows = tx.all(
        "select message_id, payload, state from delivery"
        f" where kind = 'C-STORE' and message_id in ({', '.join('?' * len(messages))}){among} order by id desc",
        [*messages, *archives],
    )
    found: dict[int, tuple[bytes, bool]] = {}
    for message_id, payload, state in rows:
        latest, delivered = found.get(message_id, (bytes(payload), False))
        found[message_id] = latest, delivered or (state == "delivered" and bytes(payload) == latest)
    return found
