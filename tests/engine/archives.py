"""Archives that answer from a list, for the proxy and the prefetch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from twisted.internet.defer import Deferred

from broker.connectors.dicom_archive import Moved, Take
from broker.connectors.dicom_retrieval import Progress, Task
from broker.dicom.dimse import Counts
from broker.dicom.query import PATIENT_ROOT, STUDY_ROOT, UNIQUE, Model, Retrieval, values_of
from broker.errors import DeliveryError, Refused
from broker.ris.matching import matches_list


def entry(**elements: Any) -> Dataset:
    """Return a dataset."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


class Shelf:
    """Stands for `Archive`: what it has is told level by level, and what was moved is remembered."""

    def __init__(self, name: str, *entries: Dataset, down: DeliveryError | None = None) -> None:
        self.name, self.ae_title = name, name.upper()
        self.entries, self.down = entries, down
        self.asked: list[Dataset] = []
        self.moved: list[tuple[str, Retrieval]] = []
        self.got: list[Retrieval] = []
        self.verdict: Moved = (0, Counts(0, 1), [])
        self.getting: Moved = (0, Counts(0, 1), [])
        self.status = 0
        self.cancelled = False
        self.offered = {STUDY_ROOT.find, STUDY_ROOT.get, PATIENT_ROOT.get}
        self.gate: Deferred[None] | None = None  # a query waits for it before its last answer
        self.on_move: Callable[[Progress], None] = lambda progress: None
        self.serve: Any = None
        self.stored: Any = None

    async def __aenter__(self) -> Shelf:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Let it go."""

    async def open(self, *sop_classes: str, serve: Any = None, stored: Any = None) -> None:
        if self.down is not None:
            raise self.down
        self.serve, self.stored = serve, stored

    def offers(self, sop_class: str) -> bool:
        return sop_class in self.offered

    async def find(self, model: Model, identifier: Dataset, take: Take, task: Task) -> int:
        self.asked.append(identifier)
        level = identifier.QueryRetrieveLevel
        keys = {UNIQUE[one]: "\\".join(values_of(identifier, UNIQUE[one])) for one in UNIQUE}
        found = [
            one
            for one in self.entries
            if one.QueryRetrieveLevel == level
            and all(not key or keyword not in one or matches_list(key, str(one.get(keyword, ""))) for keyword, key in keys.items())
        ]
        stop = task.watch(self._stop)
        for one in found:
            if not self.cancelled:
                await take([one])
        if self.gate is not None:
            await self.gate
        stop()
        return 0xFE00 if self.cancelled else self.status

    def _stop(self) -> None:
        self.cancelled = True
        if self.gate is not None and not self.gate.called:
            self.gate.callback(None)

    async def move(self, wanted: Retrieval, destination: str, task: Task, progress: Progress) -> Moved:
        self.moved.append((destination, wanted))
        self.on_move(progress)
        return self.verdict

    async def get(self, wanted: Retrieval, task: Task, progress: Progress) -> Moved:
        if self.serve is None:
            raise Refused("nobody takes what comes")
        self.got.append(wanted)
        return self.getting


def series(study: str, uid: str, count: int) -> Dataset:
    """Return what an archive says of a series."""
    return entry(QueryRetrieveLevel="SERIES", StudyInstanceUID=study, SeriesInstanceUID=uid, NumberOfSeriesRelatedInstances=count)


def study(uid: str, **more: Any) -> Dataset:
    """Return what an archive says of a study."""
    return entry(QueryRetrieveLevel="STUDY", StudyInstanceUID=uid, **more)
