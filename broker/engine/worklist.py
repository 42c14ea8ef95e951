"""The modality worklist: a query is read, looked up in the store a page at a time, and answered in the peer's character set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache

from twisted.internet.defer import Deferred

from broker.connectors.base import WorklistTerms
from broker.dicom.answers import Answers, charsets_of, keys_of
from broker.dicom.dataset import decode
from broker.ris import worklist
from broker.ris.worklist import WorklistQuery
from broker.ris.worklist_entry import ATTRIBUTES, WorklistEntry
from broker.store import worklist as rows
from broker.store.database import Database
from broker.store.engine import Row

PAGE = 100  # entries encoded and sent at a time
SCANNED = 500  # rows looked at in a time when not all of them match
REMEMBERED = 16, 1000  # identifiers and character sets, and of each of them entries as they were encoded

Told = Callable[[list[str]], None]


class Asked:
    """What a modality asks, read once: its keys, and how its answers are written. It asks the same every minute."""

    def __init__(self, identifier: bytes, syntax: str, charset: tuple[str, ...], unencodable: str) -> None:
        dataset = decode(identifier, syntax)
        self.keys: Mapping[str, str] = keys_of(dataset)
        answers = Answers[WorklistEntry](dataset, ATTRIBUTES, charsets_of(dataset, charset), unencodable, syntax)
        # the same row gives the same bytes: between two queries little changes
        self.encoded = lru_cache(maxsize=REMEMBERED[1])(lambda row, identifiers: answers.write(rows.entry(row, identifiers)))


def reader() -> Callable[[bytes, str, tuple[str, ...], str], Asked]:
    """Return what reads identifiers, and remembers the last of them; it goes with who asked for it, as it holds patients' data."""
    return lru_cache(maxsize=REMEMBERED[0])(Asked)


def query(keys: Mapping[str, str], terms: WorklistTerms, now: str) -> WorklistQuery:
    """Return the query of an identifier's keys on the terms of its caller; `now` is the site's time."""
    states = worklist.LISTED if terms.started else worklist.WAITING
    wanted = worklist.for_stations(worklist.from_keys(keys, states), terms.stations, terms.modality)
    today = datetime.strptime(now[:8], "%Y%m%d")
    first = "" if terms.past is None else f"{today - timedelta(seconds=terms.past):%Y%m%d}"
    last = "" if terms.ahead is None else f"{today + timedelta(seconds=terms.ahead):%Y%m%d}"
    return replace(wanted, first_day=first, last_day=last)


class Search:
    """One query under way (`connectors.base.WorklistSearch`); `told` hears the accession numbers of each page."""

    def __init__(self, db: Database, asked: Asked, wanted: WorklistQuery, most: int, told: Told) -> None:
        self._db, self._asked, self._wanted, self._told = db, asked, wanted, told
        self._fits = worklist.filters(wanted)
        self._left = most
        self._after = rows.BEGINNING
        self._seen: set[int] = set()
        self._ended = False
        self.exceeded = False

    def page(self) -> Deferred[list[bytes]]:
        """Fire with the next entries, encoded; with none after the last."""
        return Deferred.fromCoroutine(self._page())

    async def _page(self) -> list[bytes]:
        entries: list[bytes] = []
        while not entries and not self._ended:
            count = SCANNED if self._fits else min(PAGE, self._left + 1)
            found = await self._db.read("ris.worklist", rows.page, self._wanted, self._after, count)
            self._ended = len(found) < count
            entries = self._encoded(found)
        return entries

    def _encoded(self, found: list[tuple[Row, tuple[Row, ...]]]) -> list[bytes]:
        accessions, entries = [], []
        for row, identifiers in found:
            if row[rows.STEP_ID] in self._seen:  # its start has moved since the last page
                continue
            if self._fits and not self._fitting(row, identifiers):
                continue
            if not self._left:
                self.exceeded = self._ended = True
                break
            self._left -= 1
            self._seen.add(row[rows.STEP_ID])
            accessions.append(row[rows.ACCESSION])
            entries.append(self._asked.encoded(row, identifiers))
        if found:
            self._after = rows.place_of(found[-1][0])
        self._told(accessions)
        return entries

    def _fitting(self, row: Row, identifiers: tuple[Row, ...]) -> bool:
        entry = rows.entry(row, identifiers)
        return all(fits(entry) for fits in self._fits)
