"""What Query/Retrieve passes between an association and the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from broker.dicom.dimse import Counts, Status
from broker.model import StoreRequest


class Task:
    """A query or retrieval that a peer waits for, until the peer wants no more of it."""

    def __init__(self, message_id: int = 0) -> None:
        """`message_id`: of the request that asks for it."""
        self.message_id, self.cancelled = message_id, False
        self._stops: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """The peer wants no more, or is gone."""
        if not self.cancelled:
            self.cancelled = True
            for stop in tuple(self._stops):
                stop()

    def watch(self, stop: Callable[[], None]) -> Callable[[], None]:
        """Have `stop` called when it is cancelled; return what ends that."""
        self._stops.append(stop)
        return lambda: self._stops.remove(stop)


_NONE = Counts()


@dataclass(frozen=True, slots=True)
class Searched:
    """How a query ended; its matches went out before."""

    status: int = Status.SUCCESS
    comment: str = ""  # free of patient data


@dataclass(frozen=True, slots=True)
class Retrieved:
    """How a C-MOVE or C-GET ended."""

    status: int = Status.SUCCESS
    counts: Counts = _NONE
    failed: tuple[str, ...] = ()  # SOP Instance UIDs
    comment: str = ""


Send = Callable[[Sequence[Dataset]], Awaitable[None]]  # matches on their way to the peer
Progress = Callable[[Counts], None]


@dataclass(frozen=True, slots=True)
class Return:
    """How objects get back over the association that asks for them by C-GET."""

    store: Callable[[StoreRequest], Awaitable[int]]  # one sub-operation; returns its status
    syntaxes: Mapping[str, tuple[str, ...]]  # SOP class -> the transfer syntaxes it may come in
